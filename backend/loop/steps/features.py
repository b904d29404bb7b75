"""The features of a project's images: who embeds, and the job that embeds what is there without them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.chunks import chunks
from backend.config import ProjectConfig
from backend.errors import Superseded
from backend.items.fetching import download_images, sample_images
from backend.loop.heartbeat import Progress
from backend.loop.keys import features_key
from backend.loop.steps.bank import open_bank, set_aside
from backend.project_files import Files
from backend.queueing.queues import TimeSlice
from backend.store import ProjectStore
from backend.studio.project import StudioProject
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.encoders.encoder import Encoder, open_encoder
from model.encoders.registry import SIDES, auto_side, encoder_info
from model.errors import BankError
from model.querying.outputs import IntArray

COMMIT_IMAGES = 256  # images that are embedded and kept at once
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


def open_features(store: ProjectStore, files: Files, config: ProjectConfig, encoders: Encoders) -> FeatureBank | None:
    """Open the features of the configured encoder to write to, an empty one where there are none yet.

    None where the main model is a network of our own. Damaged features are kept aside.
    """
    side = store.row().encoder_side or SIDES[0]
    key = features_key(config, side)
    if key is None:
        return None
    encoder = encoders.open(config.encoder, side)
    shape = (encoder.name, side, encoder.dim, encoder.last)
    try:
        return FeatureBank.create(files.features(key), *shape)
    except BankError:
        set_aside(files.features(key))
        return FeatureBank.create(files.features(key), *shape)


def read_features(store: ProjectStore, files: Files) -> FeatureBank | None:
    """Open the features that every image of the project has; None while there are none."""
    key = store.row().features_key
    try:
        return FeatureBank.open(files.features(key)) if key is not None else None
    except BankError as error:
        raise Superseded(str(error)) from error


def embed(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    config: ProjectConfig,
    encoders: Encoders,
    time_slice: TimeSlice,
    progress: Progress,
) -> None:
    """Embed every image that has no features of the configured encoder, and note that all have.

    It happens to projects of an older release, after another encoder was configured, and where the features were lost.
    Images are fetched again, at the encoder's own side; one that cannot be any more is embedded as the bank has it.
    """
    bank = open_bank(store, files)
    view = store.tasks.pool(store.tasks.pool_size())
    indices = np.flatnonzero(view.task_id >= 0)
    if store.row().encoder_side is None:
        sample = sample_images(studio, store.tasks.references(view.task_id[indices][:SAMPLED].tolist()))
        sizes = [image.size for image in sample if image.size is not None]
        store.set(encoder_side=auto_side(sizes) if sizes else SIDES[0])
    features = open_features(store, files, config, encoders)
    if features is None:
        return
    missing = indices[~features.knows(indices)]
    encoder = encoders.of(features)
    for number, part in enumerate(chunks(missing.tolist(), COMMIT_IMAGES)):
        progress(number * COMMIT_IMAGES / len(missing))
        places = np.array(part, np.int64)
        large = _pixels(store, studio, bank, view.task_id[places], places, features.side)
        features.write(places, encoder.embed(large))
        if time_slice.expired():
            return  # the next job goes on from here, after those of other projects
    key = features_key(config, features.side)
    store.set(features_key=key, fetching_since=store.row().fetching_since or time.time())
    files.drop_features(but=key)


def _pixels(
    store: ProjectStore, studio: StudioProject, bank: ImageBank, task_ids: IntArray, places: IntArray, side: int
) -> NDArray[np.uint8]:
    """Return these images at the encoder's side, (n, side, side, 3)."""
    images = download_images(studio, store.tasks.references(task_ids.tolist()), bank.side, side, ranges=bank.ranges)
    fetched, small = {image.task_id: image.large for image in images}, bank.gather(places)
    pixels = []
    for task_id, own in zip(task_ids.tolist(), small, strict=True):
        large = fetched.get(task_id)
        if large is None:
            large = np.asarray(Image.fromarray(own).resize((side, side), Image.Resampling.BICUBIC))
        pixels.append(large)
    return np.stack(pixels)
