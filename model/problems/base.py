"""The contract of a problem: what is predicted of an image, how it is measured and how it is learned.

This half needs numpy only, so that the web may import it. What needs PyTorch stands in methods that import it when they
are called.

Terms: a *target* is the agreed answer for one image, a plain JSON value. A *prediction* has the form of a target. A
*quality* is a number from 0 to 1 that says how well a prediction fits a target.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model.errors import BadInput
from model.querying.outputs import COMMON_DERIVED, FloatArray, IntArray, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 65_536  # images whose outputs are read at once

# What any network of ours gives of a pool, whatever its head predicts.
COMMON_OUTPUTS = COMMON_DERIVED | {
    "embeddings", "predicted_losses", "detached_losses", "labeled_probability", "pretext_embeddings",
}  # fmt: skip

Target = Any  # a JSON value: its form is the problem's own
Prediction = Any  # of the same form as a target
Encoded = npt.NDArray[Any]  # targets as the learners take them, (n, ...)
Decoding = Mapping[str, Any]  # what ``tune`` has chosen for ``decode``, a plain JSON object


@dataclass(frozen=True)
class Mistakes:
    """The things that predictions show, how many of these are expected to be wrong, and how many more are missed."""

    shown: int
    wrong: float
    missed: float


class Problem(ABC):
    """A kind of prediction, without state: one object serves all projects.

    name: in the registry. metric: the name of the headline number, which is the mean quality over the holdout.
    base_outputs: what ``decode`` reads: every prediction of a pool has them. learners: names of
    ``model.learners.registry`` that can fit it, the one that ``auto`` begins with first. view_side: of the images with
    their aspect kept that its learners need (``model.data.views``), in pixels; None where they need none.
    outputs: what its models give of a pool (names of ``model.querying.outputs``), mostly ``COMMON_OUTPUTS`` and
    ``base_outputs``: a sampler is a choice if and only if it needs no more. figures: of the dashboard, in their order.
    folds: parts of the labels that ``tune`` is given predictions for, each by a model that was trained on the others;
    0 where there is nothing to tune. overlay: how targets that say where something is are drawn over their image (a
    name of ``backend.dashboard.overlays``); hardly two of them are equal. None where a target is of the whole image.
    round_size, holdout_share, sampler, pretext: the images that a project's round asks, the random ones on top as a
    share of them, the sampler and the pretext task, where nothing is configured; None for those of a class an image.
    counts_objects: whether an answer takes as long as there are objects on the image (``expected_objects``).
    """

    name: str
    metric: str = "accuracy"
    base_outputs: tuple[str, ...]
    outputs: frozenset[str]
    learners: tuple[str, ...]
    view_side: int | None = None
    figures: tuple[str, ...] = ("curve", "losses", "map")
    folds: int = 0
    overlay: str | None = None
    round_size: int | None = None
    holdout_share: float | None = None
    counts_objects: bool = False
    sampler: str | None = None
    pretext: str | None = None

    # Targets

    @abstractmethod
    def fits(self, target: Target, classes: Sequence[str]) -> bool:
        """Tell whether a target can be learned with these classes: one that has left the configuration cannot."""

    def merge(self, votes: Sequence[Target]) -> Target | None:
        """Return what several annotators agree on, by default the most frequent answer; None for a tie.

        votes: at least one.
        """
        counts = Counter(map(_hashable, votes)).most_common(2)
        if len(counts) > 1 and counts[0][1] == counts[1][1]:
            return None
        return next(vote for vote in votes if _hashable(vote) == counts[0][0])

    def left_out(self, votes: Sequence[Target]) -> int:
        """Return how many things that an annotator marked ``merge`` leaves out of what it returns; by default none."""
        return 0

    def quality(self, prediction: Prediction, target: Target) -> float:
        """Return how well a prediction fits a target, 0 to 1; by default whether it is right."""
        return float(_hashable(prediction) == _hashable(target))

    def compared(self, prediction: Prediction, target: Target, classes: Sequence[str]) -> Any:
        """Return what ``quality_of``, and figures of the problem, are made of; by default the quality itself."""
        return self.quality(prediction, target)

    def quality_of(self, compared: Any) -> float:
        """Return the quality of a prediction from what ``compared`` returns of it."""
        return float(compared)

    def score(self, predictions: Sequence[Prediction], targets: Sequence[Target], classes: Sequence[str]) -> float:
        """Return how well predictions fit their targets together, as papers report it: by default the mean quality.

        predictions: at least one.
        """
        return float(np.mean([self.quality(a, b) for a, b in zip(predictions, targets, strict=True)]))

    @property
    def scored(self) -> str:
        """The name of what ``score`` returns; by default that of the mean quality."""
        return self.metric

    def ranked(self, decoding: Decoding) -> Decoding:
        """Return the decoding of the predictions that ``score`` is given; by default the same."""
        return decoding

    def classes_of(self, target: Target) -> tuple[str, ...]:
        """Return the classes that a target names, for tables of classes; by default none."""
        return ()

    def objects(self, target: Target) -> int:
        """Return how many things an annotator has drawn for a target; by default its answer is one."""
        return 1

    # Predictions, from what a model gives of a pool. ``indices``: (n,) rows of it.

    @abstractmethod
    def decode(
        self, outputs: Outputs, indices: IntArray, classes: Sequence[str], decoding: Decoding
    ) -> list[Prediction]:
        """Return the prediction of each of these images, n of them."""

    def confidence(self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float) -> FloatArray:
        """Return the expected quality of each prediction of ``decode`` at a temperature, (n,) float32; by default 1."""
        return np.ones(len(indices), np.float32)

    def uncertainty(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return how uncertain a model is of each image, (n,) float64 from 0 (sure) to 1; by default all alike."""
        return np.ones(len(indices))

    def expected_objects(self, outputs: Outputs, indices: IntArray, decoding: Decoding) -> FloatArray:
        """Return how many things an annotator will have to draw on each image, (n,) float64; by default none."""
        return np.zeros(len(indices))

    def top_posterior(self, outputs: Outputs, indices: IntArray, decoding: Decoding) -> FloatArray:
        """Return how far a model believes its own answer about each image, (n,); by default the confidence."""
        return self.confidence(outputs, indices, decoding, temperature=1.0)

    def margin(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the difference between the two highest posteriors, (n,); raise BadInput where there are none."""
        raise BadInput(f"{self.name} has no posteriors of classes that exclude each other")

    def entropy(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the entropy of the posterior, (n,); raise BadInput where there is none."""
        raise BadInput(f"{self.name} has no posteriors of classes that exclude each other")

    def doubtful_part(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the highest posterior where it is lowest in an image, (n,); raise BadInput where images have one."""
        raise BadInput(f"{self.name} has no posteriors of pixels")

    def derived(self, need: str, outputs: Outputs, indices: IntArray, decoding: Decoding) -> FloatArray:
        """Return what a need of DERIVED names, (n,)."""
        if need == "confidence":
            return self.confidence(outputs, indices, decoding, temperature=1.0)
        if need == "top_posterior":
            return self.top_posterior(outputs, indices, decoding)
        of = {
            "uncertainty": self.uncertainty, "margin": self.margin, "entropy": self.entropy,
            "doubtful_part": self.doubtful_part,
        }  # fmt: skip
        return of[need](outputs, indices)

    def expected_mistakes(
        self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float
    ) -> Mistakes | None:
        """Return what is expected of the things that ``decode`` shows on these images together; by default None.

        None: a prediction is not made of things that can be wrong or missing each for itself.
        """
        return None

    def log_likelihood(
        self, outputs: Outputs, indices: IntArray, truth: Encoded, temperatures: FloatArray
    ) -> FloatArray:
        """Return the log likelihood of encoded targets at each temperature, (G,); by default all are as likely."""
        return np.zeros(len(temperatures))

    def agreement(self, first: Sequence[Prediction], second: Sequence[Prediction]) -> float | None:
        """Return how far two models agree on the same images, 1: throughout; None where it is not defined."""
        if not first:
            return None
        return float(np.mean([self.quality(a, b) for a, b in zip(first, second, strict=True)]))

    def tune(self, outputs: Outputs, truth: Encoded, classes: Sequence[str]) -> Decoding:
        """Choose what ``decode`` goes by from out-of-fold outputs of all labeled images; by default nothing."""
        return {}

    def at_temperature(self, decoding: Decoding, temperature: float) -> Decoding:
        """Return what makes of outputs at a temperature the predictions that ``decoding`` makes of those at 1."""
        return decoding

    # Learning

    @abstractmethod
    def encode(self, targets: Sequence[Target], classes: Sequence[str]) -> Encoded:
        """Return targets that fit as an array (n, ...), as the learners take them; equal ones give equal bytes."""

    def check(self, truth: Encoded, classes: int) -> None:
        """Raise BadInput for encoded targets that no model of so many classes can be trained on."""
        if not np.isfinite(truth).all():
            raise BadInput("found targets that are not finite numbers")


class VectorProblem(Problem):
    """A problem whose prediction is made of one vector an image, which a head gives of the image's features."""

    learners = ("linear", "finetune", "own")

    @abstractmethod
    def head(self, width: int, classes: int) -> "nn.Module":
        """Return a module from features (B, width) to raw outputs (B, ...)."""

    @abstractmethod
    def loss(self, raw: "Tensor", truth: "Tensor", label_smoothing: float) -> "Tensor":
        """Return the loss of each image, (B,), of a head's raw outputs."""

    @abstractmethod
    def outputs_of(self, raw: "Tensor") -> dict[str, "Tensor"]:
        """Return what a head's raw outputs mean, by the name of an output: (B, ...) each."""


def as_vector(of: Problem) -> VectorProblem:
    """Return a problem whose predictions are made of one vector an image; raise BadInput for any other."""
    if not isinstance(of, VectorProblem):
        raise BadInput(f"{of.name} is not predicted by a head on one vector an image: its learner is {of.learners[0]}")
    return of


def chunks(indices: IntArray) -> Iterator[IntArray]:
    """Yield CHUNK indices at a time, so that memory does not grow with the pool."""
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]


def _hashable(value: Target) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
