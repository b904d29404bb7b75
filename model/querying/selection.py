"""What a query strategy is given and what it gives back, for first queries and samplers alike."""

from dataclasses import dataclass, field

import numpy as np

from model.errors import BadInput
from model.problems import PROBLEMS, Problem
from model.problems.base import Decoding
from model.querying.outputs import DERIVED, FEATURES, BoolArray, FloatArray, IntArray, Outputs, pool_axis

GAIN_PER = ("image", "object")  # what an annotator spends: looking at an image, and drawing each object on it


@dataclass(frozen=True)
class Query:
    """The images that a strategy asks, most wanted first.

    indices: (k,) distinct pool indices.
    scores: (k,) float64, strictly rising, in [0, 1): Label Studio serves the lowest first.
    """

    indices: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Candidates:
    """The images that may be asked, with a view on everything that is known of the pool.

    indices: (n,) pool indices in the order of the batch split.
    losses: (N,) pretext losses of the whole pool.
    outputs: what the networks say of the whole pool.
    labels: (N,) class ids of the whole pool, -1 where there is no label; None: not known.
    covered: (m,) pool indices that are answered or already asked; strategies that spread their picks avoid them.
    classes: number of classes of the main task, None where it is not known yet.
    problem, decoding: what the model predicts, and how; what is DERIVED follows from them.
    pool: (p,) pool indices of all images that a query may stand for, asked or not; None: those of the candidates.
    gain_per: what strategies that compute a gain divide it by, a name of GAIN_PER.
    """

    indices: IntArray
    losses: FloatArray
    outputs: Outputs = field(default_factory=Outputs)
    labels: IntArray | None = None
    covered: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    classes: int | None = None
    problem: Problem = PROBLEMS["single_label"]
    decoding: Decoding = field(default_factory=dict)
    pool: IntArray | None = None
    gain_per: str = GAIN_PER[0]

    @property
    def to_cover(self) -> IntArray:
        """The pool indices of the images that strategies of coverage cover."""
        return self.indices if self.pool is None else self.pool

    def costs(self, indices: IntArray) -> FloatArray:
        """Return what each of these images costs to label, (n,) float64: 1 to look at it, and 1 for each object."""
        if self.gain_per == "image":
            return np.ones(len(indices))
        return 1.0 + self.problem.expected_objects(self.outputs, indices, self.decoding)

    def rows(self, need: str, indices: IntArray | None = None) -> FloatArray:
        """Return the output ``need`` of the candidates, or of the given pool indices: (n, ...), or (T, n, C) of passes.

        Raises BadInput where the output was not computed or is not finite.
        """
        wanted = self.indices if indices is None else indices
        axis = pool_axis(need)
        rows = self._derived(need, wanted) if need in DERIVED else self._stored(need, wanted)
        if rows.dtype == FEATURES:  # enough to keep them, not to compute with
            rows = rows.astype(np.float32)
        if not np.isfinite(rows).all():
            bad = int((~np.isfinite(np.moveaxis(rows, axis, 0))).reshape(len(wanted), -1).any(axis=1).sum())
            raise BadInput(f"'{need}' of {bad} of {len(wanted)} images are not finite numbers: the model has diverged")
        return rows

    def _derived(self, need: str, indices: IntArray) -> FloatArray:
        for name in self.problem.base_outputs:
            self._stored(name, indices[:0])  # named where it is missing
        return self.problem.derived(need, self.outputs, indices, self.decoding)

    def _stored(self, need: str, indices: IntArray) -> FloatArray:
        array = getattr(self.outputs, need)
        if array is None:
            raise BadInput(f"this strategy needs '{need}' of the pool, and they were not computed")
        return np.asarray(array[:, indices] if pool_axis(need) else array[indices])

    def labeled(self) -> tuple[IntArray, IntArray]:
        """Return the pool indices that have a label, ascending, and their class ids."""
        if self.labels is None:
            raise BadInput("this strategy needs the labels given so far, and they were not passed")
        indices = np.flatnonzero(self.labels >= 0)
        return indices, self.labels[indices]


def query_by_rank(indices: IntArray) -> Query:
    """Return the query that asks ``indices`` in this order, their scores spread evenly over [0, 1)."""
    return Query(np.asarray(indices, np.int64), np.arange(len(indices)) / max(len(indices), 1))


def query_by_score(indices: IntArray, values: FloatArray) -> Query:
    """Return the query that asks ``indices`` in this order, with ``values`` in [0, 1] that do not fall as scores."""
    return Query(np.asarray(indices, np.int64), strictly_rising(values))


def strictly_rising(values: FloatArray, below: float = 1.0) -> FloatArray:
    """Lift values that repeat or fall by as few float64 steps as make them strictly rise, and stay below a limit.

    values: (n,) in [0, 1]. below: at most 1. Neighbouring non-negative floats have neighbouring bit patterns, so that
    the lift is integer arithmetic.
    """
    values = np.asarray(values, np.float64)
    if len(values) and not (values.min() >= 0.0 and values.max() <= 1.0):
        raise BadInput(f"scores have to lie in [0, 1], found {values.min()} to {values.max()}")
    steps = np.arange(len(values))
    bits = (values + 0.0).view(np.int64)  # + 0.0 turns -0.0, whose bits are negative, into 0.0
    bits = np.maximum.accumulate(bits - steps) + steps
    limit = np.float64(below).view(np.int64)
    rising: FloatArray = np.minimum(bits, limit - len(values) + steps).view(np.float64)
    return rising


def lowest(indices: IntArray, values: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return the ``k`` indices of the lowest values with their values, ascending, ties by index."""
    order = np.lexsort((indices, values))[:k]
    return indices[order], values[order]


def mask_of(indices: IntArray, size: int) -> BoolArray:
    """Return a (size,) mask that is True at ``indices``."""
    mask = np.zeros(size, np.bool_)
    mask[indices] = True
    return mask
