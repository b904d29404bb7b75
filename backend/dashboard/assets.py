"""Files that pages load: Plotly's script from its Python package, and images from the bank."""

import gzip
import io
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.bank import ImageBank
from model.data.views import ViewBank

PLOTLY_SCRIPT = "plotly/package_data/plotly.min.js"
THUMBNAIL = 96  # pixels
VIEW_THUMBNAIL = 192  # pixels of the longer side, sharp on a phone's screen
QUALITY = 85  # of JPEG


@dataclass(frozen=True)
class Script:
    """Plotly's script, compressed once a process, to a third of its 5 MB."""

    version: str
    compressed: bytes


@cache
def plotly() -> Script | None:
    """Return the script without importing the package, which would take a second; None if it is not installed."""
    try:
        package = distribution("plotly")
        path = Path(str(package.locate_file(PLOTLY_SCRIPT)))
        return Script(package.version, gzip.compress(path.read_bytes(), 6, mtime=0))
    except (PackageNotFoundError, FileNotFoundError):
        return None


@cache
def plotly_version() -> str:
    """Return the version of the installed package, which names the script for the browser's cache."""
    try:
        return distribution("plotly").version
    except PackageNotFoundError:
        return "none"


def png(bank: ImageBank, pool_index: int, *, small: bool) -> bytes:
    """Return an image of the bank as PNG, at most ``THUMBNAIL`` pixels wide if ``small``."""
    image = Image.fromarray(bank.gather(np.array([pool_index]))[0])
    if small:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def jpeg(views: ViewBank, pool_index: int, *, small: bool) -> bytes:
    """Return a view without its padding as JPEG, at most ``VIEW_THUMBNAIL`` pixels a side if ``small``."""
    index = np.array([pool_index])
    width, height = views.letterboxes(index)[0].content
    image = Image.fromarray(views.gather(index)[0, :height, :width])
    if small:
        image.thumbnail((VIEW_THUMBNAIL, VIEW_THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
