"""The features of a project's images: who embeds, and the job that embeds what is there without them."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.chunks import chunks
from backend.config import ProjectConfig
from backend.errors import Superseded
from backend.items.fetching import FetchedImage, sample_images
from backend.loop.keys import features_key, keeps_activations
from backend.loop.steps.bank import open_bank, set_aside
from backend.loop.steps.shards import Recipe, Shards
from backend.project_files import Files
from backend.queueing.queues import TimeSlice
from backend.store import ProjectStore
from backend.studio.project import StudioProject
from model.data.bank import ImageBank
from model.data.decoding import Sides
from model.data.features import FeatureBank
from model.data.views import UNKNOWN_SIZE, ViewBank
from model.encoders.encoder import Encoder, no_last_block, open_encoder
from model.encoders.registry import SIDES, auto_side, encoder_info
from model.errors import BadInput, BankError
from model.learners.registry import FINETUNE
from model.querying.outputs import BoolArray, IntArray

SAMPLED = 4096  # images among which those whose sizes are measured are spread


@dataclass(frozen=True)
class Encoders:
    """Opens encoders in this process. folder: of their weights and prepared networks. device: see ``model.device``."""

    folder: Path
    device: str

    def open(self, name: str, side: int) -> Encoder:
        """Return the encoder of that name for images of ``side`` pixels; raise WeightsMissing."""
        return open_encoder(encoder_info(name).name, side, self.folder, self.device, self.threads)

    @property
    def threads(self) -> int:
        """The threads of an encoder: one core stays for what fetches and decodes images, and for annotators."""
        return max((os.cpu_count() or 1) - 1, 1)

    def of(self, features: FeatureBank) -> Encoder:
        """Return the encoder that made these features."""
        return self.open(features.encoder, features.side)


@dataclass(frozen=True)
class EncoderBanks:
    """What an encoder makes of a project's images. activations: of the last block; None where they are not kept."""

    encoder: Encoder
    features: FeatureBank
    activations: FeatureBank | None

    @classmethod
    def create(cls, encoder: Encoder, features: Path, activations: Path | None) -> Self:
        """Open what is in these folders to write to, empty where there is nothing yet. What is damaged is kept aside.

        Of an encoder whose last block cannot be separated, activations without columns stay empty, and say so.
        """
        about, width = (encoder.name, encoder.side), encoder.activations
        known = _create(features, *about, encoder.dim, encoder.last)
        kept = None if activations is None else _create(activations, *about, width, width)
        return cls(encoder, known, kept if width else None)

    def knows(self, indices: IntArray) -> BoolArray:
        """Tell which of these images have all that is kept."""
        known = self.features.knows(indices)
        return known if self.activations is None else known & self.activations.knows(indices)

    def write(self, places: IntArray, pixels: NDArray[np.uint8]) -> None:
        """Embed the images of these pool indices, (n, side, side, 3), of which something is missing, and keep that."""
        missing = ~self.knows(places)
        places, pixels = places[missing], pixels[missing]
        if not len(places):
            return
        if self.activations is None:
            self.features.write(places, self.encoder.embed(pixels))
            return
        features, activations = self.encoder.activate(pixels)
        new = ~self.features.knows(places)
        self.features.write(places[new], features[new])
        self.activations.write(places, activations)

    def keep(self, places: IntArray, images: Sequence[FetchedImage]) -> None:
        """Keep what is missing of the images of these pool indices, and embed those that nobody has embedded yet."""
        made = np.array([image.features is not None for image in images])
        if not made.all():
            pixels = [image.large for image in images if image.features is None and image.large is not None]
            self.write(places[~made], np.stack(pixels))
        places, images = places[made], [image for image in images if image.features is not None]
        new = ~self.features.knows(places)
        if new.any():
            rows = [row for image in images if (row := image.features) is not None]
            self.features.write(places[new], np.stack(rows)[new])
        if self.activations is not None and (new := ~self.activations.knows(places)).any():
            rows = [row for image in images if (row := image.activations) is not None]
            self.activations.write(places[new], np.stack(rows)[new])


def _create(folder: Path, encoder: str, side: int, dim: int, last: int) -> FeatureBank:
    try:
        return FeatureBank.create(folder, encoder, side, dim, last)
    except BankError:
        set_aside(folder)
        return FeatureBank.create(folder, encoder, side, dim, last)


def open_banks(store: ProjectStore, files: Files, config: ProjectConfig, encoders: Encoders) -> EncoderBanks | None:
    """Open what the configured encoder makes of the images, to write to.

    None where the main model is a network of our own. Activations that no learner may read any more, as in a pool that
    has become too large for it, are deleted. Raises BadInput where the configured learner needs those of an encoder
    whose last block cannot be separated.
    """
    side = store.row().encoder_side or SIDES[0]
    key = features_key(config, side)
    if key is None:
        return None
    encoder = encoders.open(config.encoder, side)
    if config.learner == FINETUNE and not encoder.activations:
        raise BadInput(no_last_block(encoder.name))
    wanted = keeps_activations(config, store.row(), _size(store))
    if not wanted:
        files.drop_activations()
    return EncoderBanks.create(encoder, files.features(key), files.activations(key) if wanted else None)


def _size(store: ProjectStore) -> int:
    counts = store.tasks.counts(time.time())
    return counts.ok + counts.new


def open_views(files: Files, side: int) -> ViewBank:
    """Open the views of that side to write to, empty ones where there are none yet. Damaged ones are kept aside."""
    try:
        return ViewBank.create(files.views(side), side)
    except BankError:
        set_aside(files.views(side))
        return ViewBank.create(files.views(side), side)


def read_views(files: Files, side: int | None) -> ViewBank | None:
    """Open the views that every image of the project has; None where no side is asked for."""
    try:
        return ViewBank.open(files.views(side)) if side is not None else None
    except BankError as error:
        raise Superseded(str(error)) from error


def read_features(store: ProjectStore, files: Files) -> FeatureBank | None:
    """Open the features that every image of the project has; None while there are none."""
    key = store.row().features_key
    try:
        return FeatureBank.open(files.features(key)) if key is not None else None
    except BankError as error:
        raise Superseded(str(error)) from error


def read_activations(store: ProjectStore, files: Files, config: ProjectConfig) -> FeatureBank | None:
    """Open what the last block of the encoder is given; None where a learner may not read it, or it is not there.

    Raises Superseded where the configured learner cannot do without, and not all images have it: EMBED sees to it.
    """
    key = store.row().features_key
    if key is None or not keeps_activations(config, store.row(), _size(store)):
        return None
    try:
        bank = FeatureBank.open(files.activations(key))
    except BankError:
        bank = None
    if config.learner == FINETUNE and (bank is None or len(bank) < store.tasks.pool_size()):
        raise Superseded("not all images have the activations of the encoder yet")
    return bank if bank is not None and bank.dim else None


def embed(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    config: ProjectConfig,
    encoders: Encoders,
    time_slice: TimeSlice,
    shards: Shards,
    view_side: int | None = None,
) -> None:
    """Embed every image of which something is missing that the configured encoder makes, and note that all are there.

    Likewise their views. It happens to projects of an older release, after another encoder or another kind of label was
    configured, and where something was lost. Images are fetched again, at the sides that are wanted; one that cannot be
    any more is taken as the bank has it. view_side: of the views that the project's problem asks for, in pixels.
    """
    bank = open_bank(store, files)
    view = store.tasks.pool(store.tasks.pool_size())
    indices = np.flatnonzero(view.task_id >= 0)
    if store.row().encoder_side is None:
        sample = sample_images(studio, store.tasks.references(view.task_id[indices][:SAMPLED].tolist()))
        sizes = [image.size for image in sample if image.size is not None]
        store.set(encoder_side=auto_side(sizes) if sizes else SIDES[0])
    banks = open_banks(store, files, config, encoders)
    if banks is None:
        return
    views = open_views(files, view_side) if view_side is not None else None
    unembedded, side = ~banks.knows(indices), banks.encoder.side
    unviewed = ~views.knows(indices) if views is not None else np.zeros(len(indices), np.bool_)
    missing = indices[unembedded | unviewed]
    sides = Sides(bank.side, side if unembedded.any() else None, view_side if unviewed.any() else None)
    recipe = Recipe(sides, bank.ranges, banks.encoder.name, banks.activations is not None)
    done = 0
    for part, images in _fetched(store, shards, recipe, bank, view.task_id, missing):
        if sides.encoder is not None:
            banks.keep(part, images)
        if views is not None and sides.view is not None:
            pixels = np.stack([image.view for image in images if image.view is not None])
            views.write(part, pixels, np.array([image.size for image in images]))
        done += len(part)
        shards.progress(done / len(missing))
        if time_slice.expired():
            return  # the next job goes on from here, after those of other projects
    shards.clear()
    key = features_key(config, side)
    store.set(features_key=key, fetching_since=store.row().fetching_since or time.time())
    files.drop_features(but=key)
    if view_side is not None:
        files.drop_views(but=view_side)


def _fetched(
    store: ProjectStore, shards: Shards, recipe: Recipe, bank: ImageBank, task_ids: IntArray, missing: IntArray
) -> Iterator[tuple[IntArray, list[FetchedImage]]]:
    """Yield pool indices with their images, as many as are written at once, in the order of ``missing``.

    task_ids: by pool index. What cannot be fetched any more is made from the bank.
    """
    for block in chunks(missing.tolist(), SAMPLED):
        tasks = task_ids[block].tolist()
        references = dict(store.tasks.references(tasks))
        fetched = shards.images([(task, references[task]) for task in tasks if task in references], recipe)
        for part in chunks(block, recipe.size):
            places = np.array(part, np.int64)
            images = [next(fetched) if int(task) in references else None for task in task_ids[places]]
            own = bank.gather(places)
            yield (
                places,
                [
                    _of_bank(int(task), pixels, recipe.sides) if image is None or image.pixels is None else image
                    for task, pixels, image in zip(task_ids[places], own, images, strict=True)
                ],
            )
        next(fetched, None)  # so that the last of its shards counts as done


def _of_bank(task_id: int, own: NDArray[np.uint8], sides: Sides) -> FetchedImage:
    """Return an image of the bank, which is squeezed to a square: shares of its width and height stay the same."""

    def scaled(side: int) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(own).resize((side, side), Image.Resampling.BICUBIC))

    large = None if sides.encoder is None else scaled(sides.encoder)
    view = None if sides.view is None else scaled(sides.view)
    return FetchedImage(task_id, own, large, view, size=UNKNOWN_SIZE)
