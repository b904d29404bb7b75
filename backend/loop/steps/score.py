"""Predictions for single tasks that the pool's outputs do not cover yet."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backend.config import MOST_UNSEEN
from backend.errors import ImageError
from backend.items.fetching import FetchedImage, download_images
from backend.items.reference import image_ref
from backend.labeling.base import Labeling
from backend.loop.steps.bank import bank_ranges, bank_side
from backend.loop.steps.features import EncoderBanks, Encoders, read_features
from backend.project_files import Files
from backend.status.predictions import ModelOutputs
from backend.store import ProjectStore
from backend.studio.project import StudioProject
from model.data.bank import ImageBank
from model.data.decoding import Sides
from model.data.ranges import Ranges
from model.data.views import ViewBank
from model.learners.base import PoolImages
from model.problems import problem
from model.problems.base import Prediction


def score_tasks(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    labeling: Labeling,
    encoders: Encoders,
    task_ids: Sequence[int],
    until: float,
) -> dict[int, tuple[Prediction, float]]:
    """Return the newest model's prediction and confidence by task id; tasks without a usable image are left out.

    Nobody waits for them after ``until`` (as ``time.time`` counts): then it returns nothing.
    """
    from model.learners.fitting import load_model

    model = store.rounds.newest_model()
    if model is None or not files.model(model.number).exists():
        return {}
    side, known = bank_side(store), read_features(store, files)
    sides = Sides(side, known.side if known is not None else None, problem(model.problem).view_side)
    good = _fetch_images(studio, labeling, sides, bank_ranges(store, files), task_ids[:MOST_UNSEEN], until)
    if not good:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        bank = ImageBank.create(Path(folder) / "bank", side)
        bank.append(np.stack([image.pixels for image in good if image.pixels is not None]))
        pool = PoolImages(bank, encoders=files.encoders)
        if known is not None:
            encoder = encoders.of(known)
            activations = Path(folder) / "activations" if encoder.activations else None
            banks = EncoderBanks.create(encoder, Path(folder) / "features", activations)
            banks.write(np.arange(len(good)), np.stack([image.large for image in good if image.large is not None]))
            pool = replace(pool, features=banks.features, activations=banks.activations)
        if sides.view is not None:
            views = ViewBank.create(Path(folder) / "views", sides.view)
            pixels = np.stack([image.view for image in good if image.view is not None])
            views.write(np.arange(len(good)), pixels, np.array([image.size for image in good]))
            pool = replace(pool, views=views)
        outputs = load_model(files.model(model.number), device=encoders.device).predict_pool(pool)
    scored, everything = ModelOutputs(model, outputs), np.arange(len(good))
    rows = zip(good, scored.predict(everything), scored.confidence(everything), strict=True)
    return {image.task_id: (prediction, float(confidence)) for image, prediction, confidence in rows}


def _fetch_images(
    studio: StudioProject,
    labeling: Labeling,
    sides: Sides,
    ranges: Ranges | None,
    task_ids: Sequence[int],
    until: float,
) -> list[FetchedImage]:
    """Return the tasks' images, without those that cannot be used; none once it is too late."""
    if time.time() > until:
        return []
    refs = []
    for task in studio.tasks.by_id(task_ids):
        try:
            refs.append((task.id, image_ref(task.data, labeling.data_key)))
        except ImageError:
            continue
    good = []
    for image in download_images(studio, refs, sides, ranges=ranges):
        if time.time() > until:
            return []
        if image.pixels is not None:
            good.append(image)
    return good
