"""The retrain job: train on all labels, measure on the holdout, score the pool."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.config import ProjectConfig
from backend.errors import BackendError
from backend.loop.heartbeat import Progress
from backend.loop.keys import pretext_key
from backend.loop.steps.bank import open_bank
from backend.loop.steps.outputs import images_seen, load_probs, save_outputs
from backend.project_files import Files
from backend.store import ProjectStore, RoundRow, RoundState
from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.evaluation.metrics import cohen_kappa
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


@dataclass(frozen=True)
class Training:
    """What a training after a round works with.

    classes: of the label configuration, in its order.
    """

    store: ProjectStore
    files: Files
    config: ProjectConfig
    classes: Sequence[str]
    device: str

    @property
    def needs(self) -> frozenset[str]:
        """The outputs that the configured sampler reads."""
        return sampler(self.config.sampler).needs


def retrain(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    classes: Sequence[str],
    device: str,
    progress: Progress,
) -> None:
    """Train after the current round, measure and score, and close the round; without a usable label only close it."""
    current = store.rounds.current()
    if current is None or current.state != RoundState.LIVE:
        return
    training = Training(store, files, config, classes, device)
    labels = _labels(training)
    if len(labels.train):
        _train_and_score(training, current, labels, progress)
    store.rounds.set(current.number, state=RoundState.CLOSED, closed_at=time.time())
    store.set(training_requested=False)
    _prune(files, current.number)


def _train_and_score(training: Training, current: RoundRow, labels: LabelSet, progress: Progress) -> None:
    from model.learners.own_network import Learner

    files, number = training.files, current.number
    bank = open_bank(training.store, files)
    seconds = _train(training, number, bank, labels, progress)
    trained = time.monotonic()
    try:
        outputs = Learner.load(files.model(number), device=training.device).predict(
            bank,
            needs=training.needs,
            progress=lambda share: progress(TRAIN_SHARE + (1 - TRAIN_SHARE) * share),
        )
    except BackendError:  # told to stop: the next try only has to score
        raise
    except Exception:  # damaged since, diverged, or of another release: the next try trains anew
        files.trained(number).unlink(missing_ok=True)
        raise
    if outputs.probs is None:
        raise ValueError("the learner gave no posteriors")
    save_outputs(files, number, outputs)
    _note_result(training, current, labels, outputs.probs)
    training.store.rounds.add_seconds(number, retrain=seconds, score=time.monotonic() - trained)


def _train(training: Training, number: int, bank: ImageBank, labels: LabelSet, progress: Progress) -> float:
    """Write the weights of the round's model; return the seconds that training them took.

    Those of a job that was killed after its training, while it scored, are taken as they are if they belong to exactly
    these labels and this configuration.
    """
    from model.learners.own_network import fit

    files, config = training.files, training.config
    weights = files.pretext(pretext_key(config, bank.side))
    identity, note, out = _identity(training, labels, weights), files.trained(number), files.model(number)
    known = _read_note(note)
    if known.get("identity") == identity and out.exists():
        logger.info("the weights are there already: only scoring is repeated")
        return float(known["seconds"])
    note.unlink(missing_ok=True)  # before the weights change: it never stands beside those of other labels
    # A checkpoint belongs to one set of labels: more of them after a kill begin a new training.
    checkpoint = files.checkpoint(f"round-{number:03d}-{_digest(labels)}")
    started = time.monotonic()
    fit(
        bank,
        labels.train,
        labels.train_labels,
        classes=len(training.classes),
        out=out,
        checkpoint=checkpoint,
        network=config.network,
        init=config.init,
        pretext_weights=weights if weights.exists() else None,
        recipe=config.recipe,
        joint=config.joint,
        needs=training.needs,
        seed=config.seed,
        device=training.device,
        progress=lambda share: progress(TRAIN_SHARE * share),
    )
    checkpoint.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    write_atomically(note, json.dumps({"identity": identity, "seconds": seconds}).encode())
    return seconds


def _identity(training: Training, labels: LabelSet, weights: Path) -> str:
    """Return a digest of all that the weights follow from: labels by pool index and name, settings, pretext weights."""
    config = training.config
    parts = (
        _digest(labels), *training.classes, config.network, config.init, config.recipe, config.joint, config.seed,
        *sorted(training.needs), weights.stem, weights.exists(),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_note(path: Path) -> dict[str, Any]:
    """Read what weights were trained on; empty where nothing is noted that can be read."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _note_result(training: Training, current: RoundRow, labels: LabelSet, probs: FloatArray) -> None:
    before = _posteriors_before(training, current.number)
    right = _right(labels.holdout, labels.holdout_labels, probs)
    # Two models are compared only where both have seen every image: the former knows nothing of what came later.
    comparable = before is not None and bool((labels.holdout < len(before)).all())
    was_right = _right(labels.holdout, labels.holdout_labels, before) if before is not None and comparable else None
    training.store.rounds.set(
        current.number,
        has_model=True,
        classes=list(training.classes),
        labels=len(labels.train),
        holdout_size=len(labels.holdout),
        holdout_quality=float(right.sum()),
        holdout_squares=float(right.sum()),
        holdout_change=None if was_right is None else float(right.sum() - was_right.sum()),
        holdout_change_squares=None if was_right is None else float((right != was_right).sum()),
        agreement=None if before is None else _agreement(training, before, probs),
    )


def _right(indices: IntArray, truth: IntArray, probs: FloatArray) -> BoolArray:
    """Tell for each labeled image (h,) whether a model is right about it."""
    if not len(indices):
        return np.empty(0, np.bool_)
    right: BoolArray = probs[indices].argmax(axis=1) == truth
    return right


def _posteriors_before(training: Training, number: int) -> FloatArray | None:
    """Return the posteriors of the last model for the images it has seen, if it knows the same classes."""
    models = [row for row in training.store.rounds.all() if row.has_model and row.number < number]
    if not models or models[-1].classes != list(training.classes):
        return None
    return load_probs(training.files, models[-1], images_seen(training.files, models[-1]))


def _agreement(training: Training, before: FloatArray, probs: FloatArray) -> float | None:
    """Return Cohen's kappa between this model and the last on a fixed sample of unlabeled images."""
    pool = training.store.tasks.pool(len(probs))
    # The same random ranks every time: the sample changes only by what was labeled since.
    ranks = np.random.default_rng(training.config.seed).random(len(probs))
    sample = np.flatnonzero(pool.available[: len(before)])
    sample = sample[np.argsort(ranks[sample])][:AGREEMENT_SAMPLE]
    if not len(sample):
        return None
    kappa = cohen_kappa(before[sample].argmax(axis=1), probs[sample].argmax(axis=1))
    return None if kappa is None else round(kappa, 4)


def _labels(training: Training) -> LabelSet:
    ids = {name: number for number, name in enumerate(training.classes)}
    rows = [(i, ids[label], holdout) for i, label, holdout in training.store.tasks.targets() if label in ids]
    train = [(index, label) for index, label, holdout in rows if not holdout]
    held = [(index, label) for index, label, holdout in rows if holdout]
    train_array = np.array(train, np.int64).reshape(-1, 2)
    held_array = np.array(held, np.int64).reshape(-1, 2)
    return LabelSet(train_array[:, 0], train_array[:, 1], held_array[:, 0], held_array[:, 1])


def _digest(labels: LabelSet) -> str:
    return hashlib.sha256(labels.train.tobytes() + labels.train_labels.tobytes()).hexdigest()[:12]


def _prune(files: Files, newest: int) -> None:
    for path in files.folder.glob("round-*"):
        number = re.match(r"round-(\d+)", path.name)
        if number is not None and int(number[1]) <= newest - KEEP_MODELS:
            path.unlink(missing_ok=True)
    for path in files.folder.glob("checkpoint-round-*"):
        path.unlink(missing_ok=True)
