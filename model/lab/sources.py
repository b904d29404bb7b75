"""The images of a study, loaded once for all its seeds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import BadInput
from model.lab.datasets import ImageSet, load_images

# A folder of these holds splits, not classes: a network would learn which split an image is of.
SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))
MOST_BROKEN = 10  # files whose names are logged


@dataclass(frozen=True)
class Source:
    """The images that every seed draws its pool from.

    foreign: (M, side, side, 3) images of another set; each pool gets ``mixed`` of them.
    """

    images: ImageSet
    foreign: npt.NDArray[np.uint8]
    mixed: int = 0


def load_source(data: str, mix: str | None, log: Callable[[str], None]) -> Source:
    """Load a set, and the set that is mixed into it: ``name``, or ``name:N`` for N of its images.

    Logs which images cannot be decoded.

    Raises:
        BadInput: a folder without classes, or with splits in place of classes.
    """
    images = load_images(data)
    _report_broken(images, log)
    splits = [name for name in images.classes if name.lower() in SPLITS]
    if splits and len(splits) == len(images.classes):
        raise BadInput(
            f"the subfolders of '{data}' are splits ({', '.join(splits)}), not classes: name one of them, or put the "
            "subfolders of the classes of all of them into one folder"
        )
    to_ask, to_measure = (int((labels >= 0).sum()) for labels in (images.train_labels, images.test_labels))
    if not to_ask or not to_measure:
        raise BadInput(f"'{data}' has {to_ask} images of a class to ask and {to_measure} to measure on")
    if mix is None:
        return Source(images, images.train[:0])
    name, colon, number = mix.rpartition(":")
    counted = bool(colon) and number.isdecimal()
    other = load_images(name if counted else mix, side=images.train.shape[1])
    _report_broken(other, log)
    wanted = int(number) if counted else len(other.train)
    if wanted > len(other.train):
        raise BadInput(f"'{name}' has {len(other.train)} images, not {wanted} to mix in")
    return Source(images, other.train, wanted)


def _report_broken(images: ImageSet, log: Callable[[str], None]) -> None:
    for path, reason in images.broken[:MOST_BROKEN]:
        log(f"left out {path}: {reason}")
    more = len(images.broken) - MOST_BROKEN
    if more > 0:
        log(f"left out {more} more images of {images.name} that cannot be decoded")
