"""Posteriors of single tasks that the pool's scores do not cover yet."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.config import MOST_UNSEEN
from backend.errors import ImageError
from backend.items.fetching import FetchedImage, download_images
from backend.items.reference import image_ref
from backend.labeling.base import Labeling
from backend.loop.steps.bank import bank_side
from backend.project_files import Files
from backend.store import ProjectStore
from backend.studio.project import StudioProject
from model.data.bank import ImageBank


def score_tasks(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    labeling: Labeling,
    device: str,
    task_ids: Sequence[int],
    until: float,
) -> dict[int, list[float]]:
    """Return the newest model's posteriors (C,) by task id; tasks without a usable image are left out.

    Nobody waits for them after ``until`` (as ``time.time`` counts): then it returns nothing.
    """
    from model.learners.own_network import Learner

    model = store.rounds.newest_model()
    if model is None or not files.model(model.number).exists():
        return {}
    side = bank_side(store)
    good = _fetch_images(studio, labeling, side, task_ids[:MOST_UNSEEN], until)
    if not good:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        bank = ImageBank.create(Path(folder) / "bank", side)
        bank.append(np.stack([image.pixels for image in good if image.pixels is not None]))
        probs = Learner.load(files.model(model.number), device=device).predict(bank).probs
    return {} if probs is None else {image.task_id: row.tolist() for image, row in zip(good, probs, strict=True)}


def _fetch_images(
    studio: StudioProject, labeling: Labeling, side: int, task_ids: Sequence[int], until: float
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
    for image in download_images(studio, refs, side):
        if time.time() > until:
            return []
        if image.pixels is not None:
            good.append(image)
    return good
