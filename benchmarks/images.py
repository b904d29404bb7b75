"""Images to measure with: generated ones, photos cut out of scikit-learn's two, and CIFAR-10 where it is there."""

import io
import os
import tarfile
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.data.decoding import decode
from model.lab.datasets import DATA_FOLDER, DEFAULT_FOLDER

CIFAR = 50_000  # images, which lie by class
SUFFIXES = (".png", ".jpg", ".jpeg")
PHOTO = 320, 240  # pixels: width and height
PHOTO_CLASSES = ("china left", "china right", "flower left", "flower right")


def colour_images(count: int, side: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return (count, side, side, 3) images of blurred noise with a bright spot.

    What they show does not matter for how long they take.
    """
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, side // 4, side // 4, 3), np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    rows, columns = generator.integers(0, side // 2, (2, count))
    for image, row, column in zip(images, rows, columns, strict=True):
        image[row : row + side // 4, column : column + side // 4] += 55
    return images


def cifar_like(count: int) -> tuple[str, npt.NDArray[np.uint8]]:
    """Return images of CIFAR-10, (count, 32, 32, 3), and their name; generated ones where it is not there."""
    archive = Path(os.environ.get(DATA_FOLDER) or DEFAULT_FOLDER) / "cifar10" / "cifar10-train.tar.gz"
    if archive.exists():
        with tarfile.open(archive, "r|gz") as files:
            spread = islice((file for file in files if file.name.endswith(SUFFIXES)), 0, None, CIFAR // count)
            contents = (files.extractfile(file) for file in islice(spread, count))
            images = [decode(content.read(), 32) for content in contents if content is not None]
        return "CIFAR-10 images", np.stack(images)
    return "generated images of 32 px", colour_images(count, 32, seed=0)


def photo(number: int) -> bytes:
    """Return photo ``number`` as JPEG: a piece of one of the two photos, at a size of its own, always the same."""
    generator = np.random.default_rng(number)
    picture = _pictures()[number % 4 // 2]
    height, width = picture.shape[:2]
    share = generator.uniform(0.4, 0.75)
    high, wide = int(share * height), int(share * width * 2 / 3)
    top = int(generator.integers(0, height - high + 1))
    half = (width - wide) // 2
    left = int(generator.integers(0, half + 1)) + (half if number % 2 else 0)
    piece = Image.fromarray(picture[top : top + high, left : left + wide]).resize(PHOTO, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    piece.save(file, "JPEG", quality=85)
    return file.getvalue()


def class_of_photo(number: int) -> str:
    """Return what photo ``number`` shows, one of PHOTO_CLASSES."""
    return PHOTO_CLASSES[number % 4]


@cache
def _pictures() -> list[npt.NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    pictures: list[npt.NDArray[np.uint8]] = load_sample_images().images
    return pictures
