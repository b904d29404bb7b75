"""A linear head on the frozen features of an encoder: fitted in a fraction of a second, calibrated out of fold."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.data.features import FeatureBank
from model.errors import BadInput, ModelError
from model.evaluation.calibration import fit_temperature
from model.learners.base import NO_NEEDS, Fitted, PoolImages, check_known, checked_labels
from model.learners.folds import deal
from model.learners.linear_head import LinearHead
from model.learners.registry import LEARNERS, LINEAR
from model.learners.scaling import Scaling, query_features
from model.learners.settings import FitSettings
from model.problems import Problem, problem
from model.problems.base import Decoding, Encoded, VectorProblem, as_vector
from model.progress import Progress, ignore_progress
from model.querying.outputs import OUTPUTS, BoolArray, FloatArray, IntArray, Outputs
from model.training.loop import read_weights, write_weights

FORMAT = 1  # of the file that ``fit_linear`` writes
C = 64.0  # weight of the summed loss against half the squared weights: level between 16 and 256 on eight sets
FOLDS = 5  # parts of the labels that the features are chosen and the temperature is fitted by
MOST_FOLDED = 2000  # labels that the folds are made of; of more, drawn ones
PROVIDED = LEARNERS[LINEAR].provides or NO_NEEDS


@dataclass(frozen=True)
class LinearSummary:
    """What came out of a fit.

    features: the kind that cross-validation chose, a key of ``kinds``. likelihood: of each kind, the mean log
    likelihood of a label out of fold, in nats; empty where there were too few labels to tell.
    """

    features: str
    likelihood: dict[str, float]
    seconds: float


def kinds(features: FeatureBank) -> dict[str, tuple[int, ...]]:
    """Return the kinds of features that a model may use: for each of its heads the number of columns.

    The default comes first: two heads, whose logits are averaged. The last layer alone is better on photographs, the
    means of the stages beside it where pictures are unlike those of ImageNet.
    """
    return {"both": (features.last, features.dim), "last": (features.last,), "last+mid": (features.dim,)}


def fit_linear(
    features: FeatureBank,
    indices: IntArray,
    truth: Encoded,
    of: VectorProblem,
    classes: Sequence[str],
    *,
    out: Path,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> LinearSummary:
    """Fit the problem's linear head to the labeled images and write the model to ``out``, whole or not at all.

    indices: (n,) pool indices of the labeled images. truth: (n, ...) their targets as ``of.encode`` gives them.
    Raises BadInput for labels of images without features, or for a problem without a linear head.
    """
    started = time.monotonic()
    indices, truth = checked_labels(indices, truth, of, classes)
    check_known(features.knows(indices), "features")
    head, raw = LinearHead(of, len(classes), C), features.gather(indices)
    scalings = {columns: Scaling.of(features, columns) for columns in (features.last, features.dim)}
    x = {columns: scaling.apply(raw) for columns, scaling in scalings.items()}
    dealt = deal(truth, FOLDS, seed, MOST_FOLDED)
    trials = _cross_validate(head, kinds(features), x, truth, classes, *dealt, progress)
    kind = max(trials, key=lambda name: trials[name].likelihood) if trials else next(iter(kinds(features)))
    chosen = trials.get(kind, NO_TRIAL)
    heads = saved_heads(fit_heads(head, kinds(features)[kind], x, truth), scalings)
    write_weights(out, {
        "format": FORMAT, "learner": LINEAR, "problem": of.name, "classes": len(classes), "seed": seed,
        "encoder": features.encoder, "side": features.side, "heads": heads,
        "temperature": chosen.temperature, "decoding": dict(chosen.decoding),
    })  # fmt: skip
    progress(1.0)
    likelihood = {name: round(trial.likelihood, 4) for name, trial in trials.items()}
    return LinearSummary(kind, likelihood, time.monotonic() - started)


def fit(
    pool: PoolImages,
    indices: IntArray,
    truth: Encoded,
    of: Problem,
    classes: Sequence[str],
    settings: FitSettings,
    *,
    out: Path,
    checkpoint: Path,
    pretext_weights: Path | None = None,
    progress: Progress = ignore_progress,
) -> Fitted:
    """Fit a linear head, as a learner of the registry does; it needs no checkpoint, and no pretext weights."""
    if pool.features is None:
        raise BadInput(f"the learner '{LINEAR}' needs the features of an encoder: set \"encoder\"")
    found = fit_linear(
        pool.features, indices, truth, as_vector(of), classes, out=out, seed=settings.seed, progress=progress
    )
    return Fitted(LINEAR, {"features": found.features, "likelihood": found.likelihood}, found.seconds)


def load(path: Path, device: str = "auto") -> "LinearModel":
    """Load what ``fit`` wrote; it computes on the processor."""
    return LinearModel.load(path)


Head = tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]  # columns, weights, biases


def fit_heads(head: LinearHead, columns_of: Sequence[int], x: Mapping[int, FloatArray], truth: Encoded) -> list[Head]:
    """Return the heads of a kind of features. x: the scaled features of the labeled images by number of columns."""
    return [(columns, *head.fit(x[columns], truth)) for columns in columns_of]


def mean_raw(x: Mapping[int, FloatArray], heads: Sequence[Head]) -> Tensor:
    """Return the mean of the heads' raw outputs, (n, outputs)."""
    raw = [x[columns] @ weight + bias for columns, weight, bias in heads]
    return torch.from_numpy(np.mean(raw, axis=0))


def saved_heads(heads: Sequence[Head], scalings: Mapping[int, Scaling]) -> list[dict[str, Tensor]]:
    """Return heads as they stand in the file of a model."""
    return [
        {
            "mean": torch.from_numpy(scalings[columns].mean),
            "weight": torch.from_numpy(weight),
            "bias": torch.from_numpy(bias),
        }
        for columns, weight, bias in heads
    ]


def out_of_fold(
    features: FeatureBank,
    indices: IntArray,
    truth: Encoded,
    of: VectorProblem,
    classes: Sequence[str],
    folds: Sequence[IntArray],
) -> Outputs:
    """Return what models that were fitted to the other folds say of each labeled image, in their order.

    The features are the kind that is best so: what is measured is what cross-validation would choose.
    """
    head, raw = LinearHead(of, len(classes), C), features.gather(indices)
    columns_of = kinds(features)
    x = {columns: Scaling.of(features, columns).apply(raw) for columns in {features.last, features.dim}}
    rows = np.arange(len(truth))
    trials = _cross_validate(head, columns_of, x, truth, classes, rows, folds, ignore_progress)
    best = max(trials.values(), key=lambda trial: trial.likelihood)
    return outputs_of(of, torch.from_numpy(best.raw / best.temperature))


class LinearModel:
    """What ``fit_linear`` wrote. encoder, side: of the features that it reads."""

    chunk = 8192  # images that are scored at once

    def __init__(self, content: dict[str, Any]) -> None:
        """Use ``load``."""
        self.problem: VectorProblem = as_vector(problem(content["problem"]))
        self.classes: int = content["classes"]
        self.decoding: Decoding = content["decoding"]
        self.encoder, self.side, self.temperature = content["encoder"], content["side"], content["temperature"]
        self.heads = [
            (Scaling(len(head["mean"]), head["mean"].numpy()), head["weight"], head["bias"])
            for head in content["heads"]
        ]

    @classmethod
    def load(cls, path: Path) -> "LinearModel":
        """Load a model; raise ModelError where it is missing or damaged."""
        content = read_weights(path)
        if content is None or content.get("format") != FORMAT or content.get("learner") != LINEAR:
            raise ModelError(f"{path} holds no linear model, or it is damaged")
        return cls(content)

    def predict_pool(
        self,
        pool: PoolImages,
        indices: IntArray | None = None,
        *,
        needs: frozenset[str] = NO_NEEDS,
        progress: Progress = ignore_progress,
    ) -> Outputs:
        """Return the problem's base outputs, calibrated, and ``embeddings``: the scaled features of the last layer.

        Images without features get neutral values. Raises BadInput for other needs, and without features of the
        encoder that the model was fitted on.
        """
        beyond = needs - PROVIDED - {*self.problem.base_outputs}
        if beyond:
            raise BadInput(f"a linear model does not give {', '.join(sorted(beyond))}")
        bank = self._features(pool)
        whole = indices is None
        indices = np.arange(len(pool.bank)) if indices is None else np.asarray(indices, np.int64)
        known = np.flatnonzero(self._knows(pool, indices))
        arrays: dict[str, FloatArray] = {}
        for start in range(0, max(len(known), 1), self.chunk):
            part = known[start : start + self.chunk]
            for name, values in self._score(pool, indices[part], needs).items():
                if name not in arrays:
                    arrays[name] = np.full((len(indices), *values.shape[1:]), np.nan, OUTPUTS[name].dtype)
                arrays[name][part] = values.numpy()
            progress((start + len(part)) / max(len(known), 1))
        for name, array in arrays.items():
            absent = np.setdiff1d(np.arange(len(indices)), known)
            array[absent] = OUTPUTS[name].neutral(array[known]) if len(known) or array.ndim > 1 else 0.0
        if "embeddings" in needs - arrays.keys():
            features = query_features(bank, len(pool.bank))
            arrays["embeddings"] = features if whole else features[indices]
        return Outputs(**arrays)

    def _features(self, pool: PoolImages) -> FeatureBank:
        """Return the features of a pool; raise BadInput where they are not those that the model was fitted on."""
        bank = pool.features
        if bank is None or (bank.encoder, bank.side) != (self.encoder, self.side):
            raise BadInput(f"this model needs the features of '{self.encoder}' at {self.side} pixels")
        return bank

    def _knows(self, pool: PoolImages, indices: IntArray) -> BoolArray:
        """Tell which of these images the model can score."""
        return self._features(pool).knows(indices)

    def _score(self, pool: PoolImages, indices: IntArray, needs: frozenset[str]) -> dict[str, Tensor]:
        """Return the problem's outputs of these images, and what else is computed with them."""
        return self.problem.outputs_of(self._raw(self._features(pool).gather(indices)) / self.temperature)

    def _raw(self, features: FloatArray) -> Tensor:
        """Return the mean of the heads' raw outputs."""
        parts = [torch.from_numpy(scaling.apply(features)) @ weight + bias for scaling, weight, bias in self.heads]
        return torch.stack(parts).mean(dim=0)


@dataclass(frozen=True)
class Trial:
    """What a cross-validation says of a model: mean log likelihood of a label, and what follows from it.

    raw: (n, outputs) of the labels that were dealt out, before the temperature.
    """

    likelihood: float
    temperature: float
    decoding: Decoding
    raw: FloatArray


NO_TRIAL = Trial(0.0, 1.0, {}, np.empty((0, 0)))  # of too few labels


def _cross_validate(
    head: LinearHead,
    kinds: Mapping[str, tuple[int, ...]],
    x: Mapping[int, FloatArray],
    truth: Encoded,
    classes: Sequence[str],
    rows: IntArray,
    folds: Sequence[IntArray],
    progress: Progress,
) -> dict[str, Trial]:
    """Try each kind of features out of fold; empty where there are too few labels to tell."""
    if not folds:
        return {}
    raw = {columns: np.empty((len(truth), head.outputs), np.float32) for columns in x}
    for number, held in enumerate(folds):
        fitted = np.setdiff1d(rows, held)
        for columns, scaled in x.items():
            raw[columns][held] = head.raw(scaled[held], *head.fit(scaled[fitted], truth[fitted])).numpy()
        progress((number + 1) / (len(folds) + 1))
    trials = {}
    for name, columns_of in kinds.items():
        mean = np.mean([raw[columns][rows] for columns in columns_of], axis=0)
        trials[name] = trial_of(head.problem, mean, truth[rows], classes)
    return trials


def trial_of(of: VectorProblem, raw: FloatArray, truth: Encoded, classes: Sequence[str]) -> Trial:
    """Return what raw outputs out of fold (n, outputs) say: how likely the labels are, temperature and decoding."""
    everything = np.arange(len(truth))
    # The only label of a class is unknown to the model that is asked for it, which says nothing of its confidences.
    fair = everything
    if truth.ndim == 1 and truth.dtype.kind == "i":
        fair = np.flatnonzero(np.bincount(truth)[truth] > 1)
    temperature = fit_temperature(
        of, outputs_of(of, torch.from_numpy(raw[fair])), np.arange(len(fair)), truth[fair]
    ).value
    outputs = outputs_of(of, torch.from_numpy(raw / temperature))
    likelihood = float(of.log_likelihood(outputs, everything, truth, np.ones(1))[0]) / len(truth)
    return Trial(likelihood, temperature, of.tune(outputs, truth, classes) if of.folds else {}, raw)


def outputs_of(of: VectorProblem, raw: Tensor) -> Outputs:
    """Return what raw outputs (n, outputs) say as ``Outputs``."""
    return Outputs(**{name: values.numpy() for name, values in of.outputs_of(raw).items()})
