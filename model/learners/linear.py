"""A linear head on the frozen features of an encoder: fitted in a fraction of a second, calibrated out of fold."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from model.data.features import FeatureBank
from model.errors import BadInput, ModelError
from model.evaluation.calibration import fit_temperature
from model.learners.base import NO_NEEDS, PoolImages
from model.learners.linear_head import LinearHead
from model.learners.registry import LEARNERS, LINEAR
from model.learners.scaling import ScaledFeatures, Scaling
from model.problems import Problem, problem
from model.problems.base import Decoding, Encoded
from model.querying.outputs import OUTPUTS, FloatArray, IntArray, Outputs
from model.training.loop import Progress, ignore_progress, read_weights, write_weights

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


def kinds(features: FeatureBank) -> dict[str, int]:
    """Return the kinds of features that a head may use, with the number of columns of each; the default first."""
    return {"last+mid": features.dim, "last": features.last}


def fit_linear(
    features: FeatureBank,
    indices: IntArray,
    truth: Encoded,
    of: Problem,
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
    truth = np.asarray(truth)
    if len(indices) != len(truth) or len(indices) == 0:
        raise BadInput(f"found {len(indices)} labeled images and {len(truth)} labels")
    of.check(truth, len(classes))
    missing = int((~features.knows(indices)).sum())
    if missing:
        raise BadInput(f"{missing} of {len(indices)} labeled images have no features yet")
    head = LinearHead(of, len(classes), C)
    scalings = {kind: Scaling.of(features, columns) for kind, columns in kinds(features).items()}
    raw = features.gather(indices)
    folded = _Folds.draw(truth, seed)
    likelihood: dict[str, float] = {}
    tuned: dict[str, tuple[float, Decoding]] = {}
    for step, (kind, scaling) in enumerate(scalings.items()):
        if folded.folds:
            likelihood[kind], tuned[kind] = folded.cross_validate(head, scaling.apply(raw), truth, classes)
        progress((step + 1) / (len(scalings) + 1))
    kind = max(likelihood, key=likelihood.__getitem__) if likelihood else next(iter(scalings))
    temperature, decoding = tuned.get(kind, (1.0, {}))
    weight, bias = head.fit(scalings[kind].apply(raw), truth)
    write_weights(out, {
        "format": FORMAT, "learner": LINEAR, "problem": of.name, "classes": len(classes), "seed": seed,
        "encoder": features.encoder, "side": features.side, "columns": scalings[kind].columns,
        "mean": torch.from_numpy(scalings[kind].mean), "weight": torch.from_numpy(weight),
        "bias": torch.from_numpy(bias), "temperature": temperature, "decoding": dict(decoding),
    })  # fmt: skip
    progress(1.0)
    return LinearSummary(kind, likelihood, time.monotonic() - started)


class LinearModel:
    """What ``fit_linear`` wrote. encoder, side: of the features that it reads."""

    def __init__(self, content: dict[str, Any]) -> None:
        """Use ``load``."""
        self.problem: Problem = problem(content["problem"])
        self.classes: int = content["classes"]
        self.decoding: Decoding = content["decoding"]
        self.encoder, self.side, self.temperature = content["encoder"], content["side"], content["temperature"]
        self.scaling = Scaling(content["columns"], content["mean"].numpy())
        self.weight, self.bias = content["weight"], content["bias"]

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
        """Return the problem's base outputs, calibrated, and ``embeddings``, which are the scaled features.

        Images without features get neutral values. Raises BadInput for other needs, and without features of the
        encoder that the model was fitted on.
        """
        if needs - PROVIDED:
            raise BadInput(f"a linear model does not give {', '.join(sorted(needs - PROVIDED))}")
        bank = pool.features
        if bank is None or (bank.encoder, bank.side) != (self.encoder, self.side):
            raise BadInput(f"this model needs the features of '{self.encoder}' at {self.side} pixels")
        indices = np.arange(len(pool.bank)) if indices is None else np.asarray(indices, np.int64)
        known = np.flatnonzero(bank.knows(indices))
        arrays: dict[str, FloatArray] = {}
        for start in range(0, max(len(known), 1), 8192):
            part = known[start : start + 8192]
            rows = torch.from_numpy(self.scaling.apply(bank.gather(indices[part])))
            for name, values in self.problem.outputs_of((rows @ self.weight + self.bias) / self.temperature).items():
                if name not in arrays:
                    arrays[name] = np.full((len(indices), *values.shape[1:]), np.nan, OUTPUTS[name].dtype)
                arrays[name][part] = values.numpy()
            progress((start + len(part)) / max(len(known), 1))
        for name, array in arrays.items():
            absent = np.setdiff1d(np.arange(len(indices)), known)
            array[absent] = OUTPUTS[name].neutral(array[known]) if len(known) or array.ndim > 1 else 0.0
        if "embeddings" in needs:
            scaled = ScaledFeatures(bank, self.scaling, len(pool.bank))
            arrays["embeddings"] = cast("FloatArray", scaled if len(indices) == len(scaled) else scaled[indices])
        return Outputs(**arrays)


@dataclass(frozen=True)
class _Folds:
    """Rows of the labels, and the part of them that each model of a cross-validation is not fitted to."""

    rows: IntArray
    folds: list[IntArray]

    @classmethod
    def draw(cls, truth: Encoded, seed: int) -> "_Folds":
        """Deal the labels out, those of a class one by one; no fold where there are too few to tell."""
        generator = np.random.default_rng([seed, 0])
        rows = generator.permutation(len(truth))[:MOST_FOLDED]
        if truth.ndim == 1 and truth.dtype.kind == "i":
            rows = rows[np.argsort(truth[rows], kind="stable")]
        count = min(FOLDS, len(rows) // 2)
        return cls(rows, [np.sort(rows[fold::count]) for fold in range(count)] if count > 1 else [])

    def cross_validate(
        self, head: LinearHead, x: FloatArray, truth: Encoded, classes: Sequence[str]
    ) -> tuple[float, tuple[float, Decoding]]:
        """Return the mean log likelihood of a label out of fold, and the temperature and decoding that follow."""
        raw = np.empty((len(truth), head.outputs), np.float32)
        for held in self.folds:
            fitted = np.setdiff1d(self.rows, held)
            raw[held] = head.raw(x[held], *head.fit(x[fitted], truth[fitted])).numpy()
        everything = np.arange(len(self.rows))
        raw, truth, of = raw[self.rows], truth[self.rows], head.problem
        outputs = _outputs(of, torch.from_numpy(raw))
        temperature = fit_temperature(of, outputs, everything, truth).value
        outputs = _outputs(of, torch.from_numpy(raw / temperature))
        likelihood = float(of.log_likelihood(outputs, everything, truth, np.ones(1))[0]) / len(truth)
        decoding = of.tune(outputs, truth, classes) if of.folds else {}
        return likelihood, (temperature, decoding)


def _outputs(of: Problem, raw: Tensor) -> Outputs:
    return Outputs(**{name: values.numpy() for name, values in of.outputs_of(raw).items()})
