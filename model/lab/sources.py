"""The images of a study, loaded once for all its seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.data.features import FeatureBank
from model.encoders.encoder import Encoder, open_encoder
from model.encoders.registry import auto_side as encoder_side
from model.errors import BadInput
from model.lab.datasets import ImageSet, load_images
from model.querying.outputs import FloatArray, IntArray

# A folder of these holds splits, not classes: a network would learn which split an image is of.
SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))
MOST_BROKEN = 10  # files whose names are logged
TRAIN, TEST, FOREIGN = "train", "test", "foreign"  # what the pool and the test set are drawn from
EMBEDDED = 1024  # images that are embedded and kept at once


@dataclass(frozen=True)
class Source:
    """The images that every seed draws its pool from.

    data: name of the set. other: the set whose training images may be mixed in; each pool gets ``mixed`` of them.
    other_data: its name.
    """

    images: ImageSet
    data: str
    other: ImageSet | None = None
    other_data: str = ""
    mixed: int = 0

    @property
    def foreign(self) -> npt.NDArray[np.uint8]:
        """The images that may be mixed in, (M, side, side, 3)."""
        return self.images.train[:0] if self.other is None else self.other.train

    def encoder(self, name: str, *, cache: Path, device: str) -> Encoder:
        """Return the encoder of that name for the images of this set; raise WeightsMissing where it cannot be had."""
        return open_encoder(name, encoder_side([self.images.size_of_files]), cache / "encoders", device)

    def embedded(
        self,
        encoder: str,
        parts: Mapping[str, IntArray],
        *,
        folder: Path,
        cache: Path,
        device: str,
        activations: bool = False,
    ) -> tuple[FeatureBank, FeatureBank | None]:
        """Return the features of these rows of TRAIN, TEST and FOREIGN, one after the other, kept in ``folder``.

        activations: whether those of the last block are wanted too; None where there are none. Each image is embedded
        once for all seeds: ``cache`` has what was embedded so far. The images come from their files at the encoder's
        own side, as they do in the product.
        """
        opened = self.encoder(encoder, cache=cache, device=device)
        widths = {"features": (opened.dim, opened.last)}
        if activations and opened.activations:
            widths["activations"] = (opened.activations, opened.activations)
        banks = {kind: FeatureBank.create(folder / kind, opened.name, opened.side, *widths[kind]) for kind in widths}
        if any(len(bank) < sum(map(len, parts.values())) for bank in banks.values()):
            gathered: dict[str, list[FloatArray]] = {kind: [] for kind in widths}
            for split, rows in parts.items():
                kept = self._kept(split, rows, opened, widths, cache)
                for kind, bank in kept.items():
                    gathered[kind].append(bank.gather(rows))
            for kind, bank in banks.items():
                bank.write(np.arange(sum(map(len, gathered[kind]))), np.concatenate(gathered[kind]))
        return banks["features"], banks.get("activations")

    def _kept(
        self, split: str, rows: IntArray, opened: Encoder, widths: Mapping[str, tuple[int, int]], cache: Path
    ) -> dict[str, FeatureBank]:
        """Return what was embedded of a part of the set, with these rows, by kind."""
        name = f"{opened.name.replace(':', '-')}-{opened.side}-{split}"
        kept = {
            kind: FeatureBank.create(cache / f"{kind}-{name}", opened.name, opened.side, *width)
            for kind, width in widths.items()
        }
        known = np.all([bank.knows(rows) for bank in kept.values()], axis=0)
        missing = rows[~known]
        for start in range(0, len(missing), EMBEDDED):
            part = missing[start : start + EMBEDDED]
            images = self._at_side(split, part, opened.side)
            found = opened.activate(images) if "activations" in kept else (opened.embed(images),)
            for bank, values in zip(kept.values(), found, strict=True):
                bank.write(part, values)
        return kept

    def _at_side(self, split: str, rows: IntArray, side: int) -> npt.NDArray[np.uint8]:
        """Return these images scaled from their files, (n, side, side, 3)."""
        images, data = self.images, self.data
        if split == FOREIGN and self.other is not None:
            images, data = self.other, self.other_data
        if min(images.size_of_files) > images.train.shape[1]:
            large = _reloaded(data, side)
            return (large.test if split == TEST else large.train)[rows]
        small = (images.test if split == TEST else images.train)[rows]
        scaled = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in small]
        return np.stack([np.asarray(image) for image in scaled])


def load_source(data: str, mix: str | None, log: Callable[[str], None], side: int | None = None) -> Source:
    """Load a set, and the set that is mixed into it: ``name``, or ``name:N`` for N of its images.

    side: of the images, in pixels; None for what suits them.

    Logs which images cannot be decoded.

    Raises:
        BadInput: a folder without classes, or with splits in place of classes.
    """
    images = load_images(data, side=side)
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
        return Source(images, data)
    name, colon, number = mix.rpartition(":")
    counted = bool(colon) and number.isdecimal()
    other_data = name if counted else mix
    other = load_images(other_data, side=images.train.shape[1])
    _report_broken(other, log)
    wanted = int(number) if counted else len(other.train)
    if wanted > len(other.train):
        raise BadInput(f"'{name}' has {len(other.train)} images, not {wanted} to mix in")
    return Source(images, data, other, other_data, wanted)


@lru_cache(maxsize=1)
def _reloaded(data: str, side: int) -> ImageSet:
    return load_images(data, side=side)


def _report_broken(images: ImageSet, log: Callable[[str], None]) -> None:
    for path, reason in images.broken[:MOST_BROKEN]:
        log(f"left out {path}: {reason}")
    more = len(images.broken) - MOST_BROKEN
    if more > 0:
        log(f"left out {more} more images of {images.name} that cannot be decoded")
