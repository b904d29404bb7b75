"""Exported models as people use them, and images as the product reads them."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.bank import ImageBank
from model.data.decoding import Sides, decode_with_depth
from model.data.views import ViewBank
from model.learners.base import PoolImages

GUIDE = Path(__file__).parents[2] / "docs" / "leads.md"


def script_of_the_guide() -> str:
    """Return the only script in the guide, which labels a folder."""
    (script,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(script)


def label_folder(onnx: Path, images: Path, folder: Path) -> list[list[str]]:
    """Run the script in ``folder``; return the cells of the lines that it prints."""
    (folder / "label_folder.py").write_text(script_of_the_guide())
    command = [sys.executable, "label_folder.py", str(onnx), str(images)]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in printed.splitlines()]


def pool_of_pictures(
    pictures: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], side: int, folder: Path, encoders: Path
) -> PoolImages:
    """Write pictures (H, W, 3) of other sizes, width and height each, into ``images``; return them as a pool."""
    (folder / "images").mkdir()
    bank, views = ImageBank.create(folder / "bank", 16), ViewBank.create(folder / "views", side)
    for number, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        path = folder / "images" / f"{number:02d}.png"
        Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC).save(path)
        decoded = decode_with_depth(path.read_bytes(), Sides(16, None, side))
        assert decoded.view is not None
        bank.append(decoded.pixels[None])
        views.write(np.array([number]), decoded.view[None], np.array([size]))
    return PoolImages(bank, views=views, encoders=encoders)
