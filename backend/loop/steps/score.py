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
from backend.loop.context import Work
from model.data.bank import ImageBank


def score_tasks(work: Work, task_ids: Sequence[int], until: float) -> dict[int, list[float]]:
    """Give the newest model's posteriors (C,) by task id; tasks without a usable image are left out.

    Nobody waits for them after ``until`` (as ``time.time`` counts): then it ends, with nothing.
    """
    from model.learners.own_network import Learner

    model = work.project_store.rounds.newest_model()
    if model is None or not work.files.model(model.number).exists():
        return {}
    good = _images(work, task_ids[:MOST_UNSEEN], until)
    if not good:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        bank = ImageBank.create(Path(folder) / "bank", work.side)
        bank.append(np.stack([image.pixels for image in good if image.pixels is not None]))
        probs = Learner.load(work.files.model(model.number), device=work.context.settings.device).predict(bank).probs
    return {} if probs is None else {image.task_id: row.tolist() for image, row in zip(good, probs, strict=True)}


def _images(work: Work, task_ids: Sequence[int], until: float) -> list[FetchedImage]:
    """Fetch the tasks' images, without those that cannot be used; none once it is too late."""
    if time.time() > until:
        return []
    refs = []
    for task in work.studio.tasks.by_id(task_ids):
        try:
            refs.append((task.id, image_ref(task.data, work.labeling.data_key)))
        except ImageError:
            continue
    good = []
    for image in download_images(work.studio, refs, work.side):
        if time.time() > until:
            return []
        if image.pixels is not None:
            good.append(image)
    return good
