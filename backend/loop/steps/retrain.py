"""The retrain job: train on all labels, measure on the holdout, score the pool."""

import hashlib
import json
import logging
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.config import ProjectConfig
from backend.errors import BackendError
from backend.labeling.base import Labeling
from backend.loop.heartbeat import Progress
from backend.loop.keys import pretext_key
from backend.loop.steps.bank import open_bank
from backend.loop.steps.features import read_activations, read_features, read_views
from backend.loop.steps.outputs import save_outputs
from backend.loop.steps.twins import twins_of
from backend.project_files import Files
from backend.status.predictions import ModelOutputs, open_outputs
from backend.store import ProjectStore, RoundRow, RoundState
from model.data.atomic_files import write_atomically
from model.learners.base import PoolImages
from model.learners.registry import OWN
from model.problems import problem
from model.problems.base import Decoding, Encoded, Problem, Target
from model.querying.outputs import IntArray, Outputs
from model.querying.samplers import sampler
from model.querying.selection import mask_of

if TYPE_CHECKING:
    from model.learners.settings import FitSettings

logger = logging.getLogger(__name__)

TRAIN_SHARE = 0.9  # of the progress bar
AGREEMENT_SAMPLE = 1000  # unlabeled images on which successive models are compared
KEEP_MODELS = 2  # newest rounds whose weights and posteriors stay on disk


@dataclass(frozen=True)
class LabelSet:
    """Targets by pool index: those to train on, as they are and encoded, and those to measure with."""

    train: IntArray
    learned: list[Target]
    truth: Encoded
    holdout: IntArray
    targets: list[Target]


@dataclass(frozen=True)
class Training:
    """What a training after a round works with."""

    store: ProjectStore
    files: Files
    config: ProjectConfig
    labeling: Labeling
    device: str
    pool: PoolImages

    @property
    def problem(self) -> Problem:
        """What is learned."""
        return problem(self.labeling.problem)

    @classmethod
    def open(
        cls, store: ProjectStore, files: Files, config: ProjectConfig, labeling: Labeling, device: str
    ) -> "Training":
        """Open the bank, views and what the encoder makes; raise Superseded where they are not there."""
        views = read_views(files, problem(labeling.problem).view_side)
        pool = PoolImages(open_bank(store, files), views=views, encoders=files.encoders, maps=files.maps)
        if not config.own_network:
            features, activations = read_features(store, files), read_activations(store, files, config)
            pool = replace(pool, features=features, activations=activations)
        return cls(store, files, config, labeling, device, pool)

    @property
    def settings(self) -> "FitSettings":
        """How the configuration has a model fitted."""
        from model.learners.settings import FitSettings

        config = self.config
        return FitSettings(
            learner=OWN if config.own_network else config.learner,
            network=config.network,
            init=config.init,
            recipe=config.recipe,
            joint=config.joint,
            epochs=config.epochs,
            needs=self.needs,
            seed=config.seed,
            device=self.device,
        )

    @property
    def needs(self) -> frozenset[str]:
        """The outputs that the configured sampler reads."""
        return sampler(self.config.sampler).needs


def retrain(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    labeling: Labeling,
    device: str,
    progress: Progress,
) -> None:
    """Train after the current round, measure and score, and close the round; without a usable label only close it."""
    current = store.rounds.current()
    if current is None or current.state != RoundState.LIVE:
        return
    training = Training.open(store, files, config, labeling, device)
    labels = labels_of(training)
    if len(labels.train):
        _train_and_score(training, current, labels, progress)
    store.rounds.set(current.number, state=RoundState.CLOSED, closed_at=time.time())
    store.set(training_requested=False)
    _prune(files, current.number)


def _train_and_score(training: Training, current: RoundRow, labels: LabelSet, progress: Progress) -> None:
    from model.learners.fitting import load_model

    files, number = training.files, current.number
    fitted = _train(training, number, labels, progress)
    trained = time.monotonic()
    try:
        model = load_model(files.model(number), device=training.device)
        outputs = model.predict_pool(
            training.pool,
            needs=training.needs,
            progress=lambda share: progress(TRAIN_SHARE + (1 - TRAIN_SHARE) * share),
        )
    except BackendError:  # told to stop: the next try only has to score
        raise
    except Exception:  # damaged since, diverged, or of another release: the next try trains anew
        files.trained(number).unlink(missing_ok=True)
        raise
    save_outputs(files, number, outputs)
    note_result(training, current, labels, outputs, model.decoding)
    training.store.rounds.set(number, learner={"learner": fitted["learner"], **fitted["about"]})
    training.store.rounds.add_seconds(number, retrain=fitted["seconds"], score=time.monotonic() - trained)


def _train(training: Training, number: int, labels: LabelSet, progress: Progress) -> dict[str, Any]:
    """Write the weights of the round's model; return what there is to say of them: learner, about, seconds.

    Those of a job that was killed after its training, while it scored, are taken as they are if they belong to exactly
    these labels and this configuration.
    """
    from model.learners.fitting import fit

    files, config = training.files, training.config
    weights = files.pretext(pretext_key(config, training.pool.bank.side))
    previous = _last_model(training, number)
    identity, note, out = _identity(training, labels, weights, previous), files.trained(number), files.model(number)
    known = _read_note(note)
    if known.get("identity") == identity and out.exists():
        logger.info("the weights are there already: only scoring is repeated")
        return known
    note.unlink(missing_ok=True)  # before the weights change: it never stands beside those of other labels
    # A checkpoint belongs to one set of labels: more of them after a kill begin a new training.
    checkpoint = files.checkpoint(f"round-{number:03d}-{_digest(labels)}")
    started = time.monotonic()
    fitted = fit(
        training.pool,
        labels.train,
        labels.truth,
        training.problem,
        training.labeling.classes,
        replace(training.settings, previous=previous),
        out=out,
        checkpoint=checkpoint,
        pretext_weights=weights if config.own_network and weights.exists() else None,
        progress=lambda share: progress(TRAIN_SHARE * share),
    )
    checkpoint.unlink(missing_ok=True)
    known = {
        "identity": identity, "learner": fitted.learner, "about": fitted.about, "seconds": time.monotonic() - started,
    }  # fmt: skip
    write_atomically(note, json.dumps(known).encode())
    return known


def _last_model(training: Training, number: int) -> Path | None:
    """Return the weights of the newest model before this round, for a configuration that goes on from them."""
    if training.config.init != "previous":
        return None
    rounds = [row.number for row in training.store.rounds.all() if row.has_model and row.number < number]
    return training.files.model(rounds[-1]) if rounds else None


def _identity(training: Training, labels: LabelSet, weights: Path, previous: Path | None) -> str:
    """Return a digest of all that the weights follow from: labels by pool index and name, settings, first weights."""
    config = training.config
    parts = (
        _digest(labels), training.problem.name, *training.labeling.classes,
        config.network, config.init, config.recipe, config.joint, config.seed, config.learner,
        training.store.row().features_key if not config.own_network else "",
        *sorted(training.needs), weights.stem, weights.exists(),
        *((config.epochs,) if config.epochs is not None else ()), *((previous.stem,) if previous is not None else ()),
    )  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_note(path: Path) -> dict[str, Any]:
    """Read what weights were trained on; empty where nothing is noted that can be read."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def note_result(training: Training, current: RoundRow, labels: LabelSet, outputs: Outputs, decoding: Decoding) -> None:
    """Note what the model can do: its quality on the holdout, and how it compares with the model before."""
    row = RoundRow(
        number=current.number,
        has_model=True,
        problem=training.problem.name,
        classes=list(training.labeling.classes),
        decoding=dict(decoding),
    )
    model, before = ModelOutputs(row, outputs), _model_before(training, current.number)
    quality = model.qualities(labels.holdout, labels.targets)
    # Two models are compared only where both have seen every image: the former knows nothing of what came later.
    comparable = before is not None and bool((labels.holdout < before.size).all())
    change = quality - before.qualities(labels.holdout, labels.targets) if before is not None and comparable else None
    training.store.set(control=training.labeling.control)  # which the project stays with from now on
    training.store.rounds.set(
        current.number,
        has_model=True,
        problem=row.problem,
        classes=row.classes,
        decoding=row.decoding,
        labels=len(labels.train),
        holdout_size=len(labels.holdout),
        holdout_quality=float(quality.sum()),
        holdout_squares=float((quality**2).sum()),
        holdout_score=_score(model, labels),
        holdout_change=None if change is None else float(change.sum()),
        holdout_change_squares=None if change is None else float((change**2).sum()),
        agreement=None if before is None else _agreement(training, before, model),
    )


def _score(model: ModelOutputs, labels: LabelSet) -> float | None:
    """Return what papers report of the predictions for the holdout, where that is not the mean quality."""
    of = model.problem
    if of.scored == of.metric or not len(labels.holdout):
        return None
    predictions = of.decode(model.outputs, labels.holdout, model.classes, of.ranked(model.decoding))
    return round(of.score(predictions, labels.targets, model.classes), 4)


def _model_before(training: Training, number: int) -> ModelOutputs | None:
    """Return what the last model says of the images it has seen, if it predicts the same with the same classes."""
    models = [row for row in training.store.rounds.all() if row.has_model and row.number < number]
    if not models or models[-1].problem != training.problem.name:
        return None
    return open_outputs(training.files, models[-1]) if models[-1].classes == list(training.labeling.classes) else None


def _agreement(training: Training, before: ModelOutputs, model: ModelOutputs) -> float | None:
    """Return how far this model and the last agree on a fixed sample of unlabeled images."""
    pool = training.store.tasks.pool(model.size)
    # The same random ranks every time: the sample changes only by what was labeled since.
    ranks = np.random.default_rng(training.config.seed).random(model.size)
    sample = np.flatnonzero(pool.available[: before.size])
    sample = sample[np.argsort(ranks[sample])][:AGREEMENT_SAMPLE]
    if not len(sample):
        return None
    agreement = training.problem.agreement(before.predict(sample), model.predict(sample))
    return None if agreement is None else round(agreement, 4)


def labels_of(training: Training) -> LabelSet:
    """Return the labels that fit what is learned now, by pool index.

    Nothing is learned from an image that equals one of the holdout: people label what nobody asked, too.
    """
    of, classes = training.problem, training.labeling.classes
    rows = [row for row in training.store.tasks.targets() if of.fits(row[1], classes)]
    held = [(index, target) for index, target, holdout in rows if holdout]
    labeled = np.array([index for index, _, _ in rows], np.int64)
    in_use = mask_of(labeled, int(labeled.max(initial=-1)) + 1)
    twins = twins_of(training.store, training.files, in_use)
    measured = {int(twins[index]) for index, _ in held}
    train = [(index, target) for index, target, holdout in rows if not holdout and int(twins[index]) not in measured]
    return LabelSet(
        train=np.array([index for index, _ in train], np.int64),
        learned=[target for _, target in train],
        truth=of.encode([target for _, target in train], classes),
        holdout=np.array([index for index, _ in held], np.int64),
        targets=[target for _, target in held],
    )


def _digest(labels: LabelSet) -> str:
    return hashlib.sha256(labels.train.tobytes() + labels.truth.tobytes()).hexdigest()[:12]


def _prune(files: Files, newest: int) -> None:
    for path in files.folder.glob("round-*"):
        number = re.match(r"round-(\d+)", path.name)
        if number is not None and int(number[1]) <= newest - KEEP_MODELS:
            path.unlink(missing_ok=True)
    for path in files.folder.glob("checkpoint-round-*"):
        path.unlink(missing_ok=True)
