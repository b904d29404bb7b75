"""The images of a study, loaded once for all its seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.data.features import FeatureBank
from model.encoders.encoder import open_encoder
from model.encoders.registry import auto_side as encoder_side
from model.errors import BadInput
from model.lab.datasets import ImageSet, load_images
from model.querying.outputs import IntArray

# A folder of these holds splits, not classes: a network would learn which split an image is of.
SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))
MOST_BROKEN = 10  # files whose names are logged
EMBEDDED = 1024  # images that are embedded and kept at once


@dataclass(frozen=True)
class Source:
    """The images that every seed draws its pool from.

    foreign: (M, side, side, 3) images of another set; each pool gets ``mixed`` of them.
    """

    images: ImageSet
    foreign: npt.NDArray[np.uint8]
    mixed: int = 0
    data: str = ""

    def features(
        self, encoder: str, split: str, rows: IntArray, *, folder: Path, cache: Path, device: str
    ) -> FeatureBank:
        """Return the features of these images of a split ("train" or "test"), in their order, kept in ``folder``.

        Each image is embedded once for all seeds: ``cache`` has what was embedded so far. The images come from their
        files at the encoder's own side, as they do in the product.
        """
        side = encoder_side(self._sizes_of_files())
        opened = open_encoder(encoder, side, cache / "encoders", device)
        shape = (opened.name, side, opened.dim, opened.last)
        known = FeatureBank.create(cache / f"features-{opened.name.replace(':', '-')}-{side}-{split}", *shape)
        missing = rows[~known.knows(rows)]
        for start in range(0, len(missing), EMBEDDED):
            part = missing[start : start + EMBEDDED]
            known.write(part, opened.embed(self._at_side(split, part, side)))
        bank = FeatureBank.create(folder, *shape)
        if len(bank) < len(rows):
            bank.write(np.arange(len(rows)), known.gather(rows))
        return bank

    def _sizes_of_files(self) -> list[tuple[int, int]]:
        return [self.images.size_of_files]

    def _at_side(self, split: str, rows: IntArray, side: int) -> npt.NDArray[np.uint8]:
        """Return these images scaled from their files, (n, side, side, 3)."""
        if min(self.images.size_of_files) > self.images.train.shape[1]:
            large = _reloaded(self.data, side)
            return (large.train if split == "train" else large.test)[rows]
        small = (self.images.train if split == "train" else self.images.test)[rows]
        scaled = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in small]
        return np.stack([np.asarray(image) for image in scaled])


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
        return Source(images, images.train[:0], data=data)
    name, colon, number = mix.rpartition(":")
    counted = bool(colon) and number.isdecimal()
    other = load_images(name if counted else mix, side=images.train.shape[1])
    _report_broken(other, log)
    wanted = int(number) if counted else len(other.train)
    if wanted > len(other.train):
        raise BadInput(f"'{name}' has {len(other.train)} images, not {wanted} to mix in")
    return Source(images, other.train, wanted, data)


@lru_cache(maxsize=1)
def _reloaded(data: str, side: int) -> ImageSet:
    return load_images(data, side=side)


def _report_broken(images: ImageSet, log: Callable[[str], None]) -> None:
    for path, reason in images.broken[:MOST_BROKEN]:
        log(f"left out {path}: {reason}")
    more = len(images.broken) - MOST_BROKEN
    if more > 0:
        log(f"left out {more} more images of {images.name} that cannot be decoded")
