"""The retrain job: train on all labels, measure on the holdout, score the pool, choose the next query."""

import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.errors import BackendError
from backend.loop.context import Work
from backend.loop.facts import pretext_key
from backend.loop.heartbeat import Progress
from backend.loop.steps.outputs import load_probs, save_outputs, seen_by
from backend.loop.steps.plan import plan
from backend.loop.steps.sync import open_bank
from backend.store import RoundRow, RoundState
from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.evaluation.metrics import cohen_kappa
from model.problems import problem
from model.querying.outputs import BoolArray, FloatArray, IntArray
from model.querying.samplers import sampler

logger = logging.getLogger(__name__)

TRAIN_SHARE = 0.9  # of the progress bar
AGREEMENT_SAMPLE = 1000  # unlabeled images on which successive models are compared
KEEP_MODELS = 2  # newest rounds whose weights and posteriors stay on disk


@dataclass(frozen=True)
class LabelSet:
    """Labels by pool index, those to train on and those to measure with."""

    train: IntArray
    train_labels: IntArray
    holdout: IntArray
    holdout_labels: IntArray


def retrain(work: Work, progress: Progress) -> None:
    """Train after the current round, then plan the next; without a usable label only plan."""
    current = work.project_store.rounds.current()
    if current is None or current.state != RoundState.LIVE:
        return
    labels = _labels(work)
    if len(labels.train):
        _train_and_score(work, current, labels, progress)
    work.project_store.rounds.set(current.number, state=RoundState.CLOSED, closed_at=time.time())
    work.store.projects.set(work.key, training_requested=False)
    plan(work)
    _prune(work, current.number)


def _train_and_score(work: Work, current: RoundRow, labels: LabelSet, progress: Progress) -> None:
    from model.learners.own_network import Learner

    bank = open_bank(work)
    number, device = current.number, work.context.settings.device
    seconds = _train(work, number, bank, labels, progress)
    trained = time.monotonic()
    try:
        outputs = Learner.load(work.files.model(number), device=device).predict(
            bank,
            needs=sampler(work.config.sampler).needs,
            progress=lambda share: progress(TRAIN_SHARE + (1 - TRAIN_SHARE) * share),
        )
    except BackendError:  # told to stop: the next try only has to score
        raise
    except Exception:  # damaged since, diverged, or of another release: the next try trains anew
        work.files.trained(number).unlink(missing_ok=True)
        raise
    if outputs.probs is None:
        raise ValueError("the learner gave no posteriors")
    save_outputs(work, number, outputs)
    _note(work, current, labels, outputs.probs)
    work.project_store.rounds.add_seconds(number, retrain=seconds, score=time.monotonic() - trained)


def _train(work: Work, number: int, bank: ImageBank, labels: LabelSet, progress: Progress) -> float:
    """Leave the weights of the round's model; give the seconds that training them took.

    Those of a job that was killed after its training, while it scored, are taken as they are if they belong to exactly
    these labels and this configuration.
    """
    from model.learners.own_network import FitSettings, fit

    identity, note, out = _identity(work, labels), work.files.trained(number), work.files.model(number)
    known = _read_note(note)
    if known.get("identity") == identity and out.exists():
        logger.info("the weights are there already: only scoring is repeated")
        return float(known["seconds"])
    note.unlink(missing_ok=True)  # before the weights change: it never stands beside those of other labels
    # A checkpoint belongs to one set of labels: more of them after a kill begin a new training.
    checkpoint = work.files.checkpoint(f"round-{number:03d}-{_digest(labels)}")
    weights = work.files.pretext(pretext_key(work.config, work.side))
    started = time.monotonic()
    fit(
        bank,
        labels.train,
        labels.train_labels,
        problem("single_label"),
        work.spec.classes,
        FitSettings(
            network=work.config.network,
            init=work.config.init,
            recipe=work.config.recipe,
            joint=work.config.joint,
            needs=sampler(work.config.sampler).needs,
            seed=work.config.seed,
            device=work.context.settings.device,
        ),
        out=out,
        checkpoint=checkpoint,
        pretext_weights=weights if weights.exists() else None,
        progress=lambda share: progress(TRAIN_SHARE * share),
    )
    checkpoint.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    write_atomically(note, json.dumps({"identity": identity, "seconds": seconds}).encode())
    return seconds


def _identity(work: Work, labels: LabelSet) -> str:
    """Name all that the weights follow from: labels by pool index and by name, and the settings of a training."""
    config, key = work.config, pretext_key(work.config, work.side)
    parts = (
        _digest(labels), *work.spec.classes, config.network, config.init, config.recipe, config.joint, config.seed,
        *sorted(sampler(config.sampler).needs), key, work.files.pretext(key).exists(),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_note(path: Path) -> dict[str, Any]:
    """Read what weights were trained on; empty where nothing is noted that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(work: Work, current: RoundRow, labels: LabelSet, probs: FloatArray) -> None:
    before = _posteriors_before(work, current.number)
    right = _right(labels.holdout, labels.holdout_labels, probs)
    # Two models are compared only where both have seen every image: the former knows nothing of what came later.
    comparable = before is not None and bool((labels.holdout < len(before)).all())
    was_right = _right(labels.holdout, labels.holdout_labels, before) if before is not None and comparable else None
    work.project_store.rounds.set(
        current.number,
        has_model=True,
        classes=list(work.spec.classes),
        labels=len(labels.train),
        holdout_size=len(labels.holdout),
        holdout_correct=int(right.sum()),
        holdout_gained=None if was_right is None else int((right & ~was_right).sum()),
        holdout_lost=None if was_right is None else int((was_right & ~right).sum()),
        agreement=None if before is None else _agreement(work, before, probs),
    )


def _right(indices: IntArray, truth: IntArray, probs: FloatArray) -> BoolArray:
    """Tell for each labeled image (h,) whether a model is right about it."""
    if not len(indices):
        return np.empty(0, np.bool_)
    right: BoolArray = probs[indices].argmax(axis=1) == truth
    return right


def _posteriors_before(work: Work, number: int) -> FloatArray | None:
    """Give the posteriors of the last model for the images it has seen, if it knows the same classes."""
    models = [row for row in work.project_store.rounds.all() if row.has_model and row.number < number]
    if not models or models[-1].classes != list(work.spec.classes):
        return None
    return load_probs(work, models[-1], seen_by(work, models[-1]))


def _agreement(work: Work, before: FloatArray, probs: FloatArray) -> float | None:
    """Cohen's kappa between this model and the last on a fixed sample of unlabeled images."""
    pool = work.project_store.tasks.pool(len(probs))
    # The same random ranks every time: the sample changes only by what was labeled since.
    ranks = np.random.default_rng(work.config.seed).random(len(probs))
    sample = np.flatnonzero(pool.available[: len(before)])
    sample = sample[np.argsort(ranks[sample])][:AGREEMENT_SAMPLE]
    if not len(sample):
        return None
    kappa = cohen_kappa(before[sample].argmax(axis=1), probs[sample].argmax(axis=1))
    return None if kappa is None else round(kappa, 4)


def _labels(work: Work) -> LabelSet:
    ids = {name: number for number, name in enumerate(work.spec.classes)}
    rows = [(index, ids[label], holdout) for index, label, holdout in work.project_store.tasks.labels() if label in ids]
    train = [(index, label) for index, label, holdout in rows if not holdout]
    held = [(index, label) for index, label, holdout in rows if holdout]
    train_array = np.array(train, np.int64).reshape(-1, 2)
    held_array = np.array(held, np.int64).reshape(-1, 2)
    return LabelSet(train_array[:, 0], train_array[:, 1], held_array[:, 0], held_array[:, 1])


def _digest(labels: LabelSet) -> str:
    return hashlib.sha256(labels.train.tobytes() + labels.train_labels.tobytes()).hexdigest()[:12]


def _prune(work: Work, newest: int) -> None:
    for path in work.files.folder.glob("round-*"):
        number = re.match(r"round-(\d+)", path.name)
        if number is not None and int(number[1]) <= newest - KEEP_MODELS:
            path.unlink(missing_ok=True)
    for path in work.files.folder.glob("checkpoint-round-*"):
        path.unlink(missing_ok=True)
