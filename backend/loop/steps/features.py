"""The features of a project's images: who embeds, and the job that embeds what is there without them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.chunks import chunks
from backend.config import ProjectConfig
from backend.errors import Superseded
from backend.items.fetching import FetchedImage, download_images, sample_images
from backend.loop.heartbeat import Progress
from backend.loop.keys import features_key, keeps_activations
from backend.loop.steps.bank import open_bank, set_aside
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

COMMIT_IMAGES = 128  # images that are written at once: five seconds of embedding, by which a first queue may be late
COMMIT_VIEWS = 64  # the same where there are views, of which one takes a hundred times as much memory
SAMPLED = 4096  # images among which those whose sizes are measured are spread


@dataclass(frozen=True)
class Encoders:
    """Opens encoders in this process. folder: of their weights and prepared networks. device: see ``model.device``."""

    folder: Path
    device: str

    def open(self, name: str, side: int) -> Encoder:
        """Return the encoder of that name for images of ``side`` pixels; raise WeightsMissing."""
        # One core stays for what fetches and decodes images, and for annotators.
        threads = max((os.cpu_count() or 1) - 1, 1)
        return open_encoder(encoder_info(name).name, side, self.folder, self.device, threads)

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


def commit_images(view_side: int | None) -> int:
    """Return how many images are written at once: what is in memory at the same time."""
    return COMMIT_IMAGES if view_side is None else COMMIT_VIEWS


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
    progress: Progress,
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
    for number, part in enumerate(chunks(missing.tolist(), commit_images(sides.view))):
        progress(number * commit_images(sides.view) / len(missing))
        places = np.array(part, np.int64)
        images = _fetched(store, studio, bank, view.task_id[places], places, sides)
        if sides.encoder is not None:
            banks.write(places, np.stack([image.large for image in images if image.large is not None]))
        if views is not None and sides.view is not None:
            pixels = np.stack([image.view for image in images if image.view is not None])
            views.write(places, pixels, np.array([image.size for image in images]))
        if time_slice.expired():
            return  # the next job goes on from here, after those of other projects
    key = features_key(config, side)
    store.set(features_key=key, fetching_since=store.row().fetching_since or time.time())
    files.drop_features(but=key)
    if view_side is not None:
        files.drop_views(but=view_side)


def _fetched(
    store: ProjectStore, studio: StudioProject, bank: ImageBank, task_ids: IntArray, places: IntArray, sides: Sides
) -> list[FetchedImage]:
    """Return these images at the sides that are wanted; what cannot be fetched any more is made from the bank."""
    images = download_images(studio, store.tasks.references(task_ids.tolist()), sides, ranges=bank.ranges)
    fetched = {image.task_id: image for image in images if image.pixels is not None}
    return [
        fetched.get(task_id) or _of_bank(task_id, own, sides)
        for task_id, own in zip(task_ids.tolist(), bank.gather(places), strict=True)
    ]


def _of_bank(task_id: int, own: NDArray[np.uint8], sides: Sides) -> FetchedImage:
    """Return an image of the bank, which is squeezed to a square: shares of its width and height stay the same."""

    def scaled(side: int) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(own).resize((side, side), Image.Resampling.BICUBIC))

    large = None if sides.encoder is None else scaled(sides.encoder)
    view = None if sides.view is None else scaled(sides.view)
    return FetchedImage(task_id, own, large, view, size=UNKNOWN_SIZE)
