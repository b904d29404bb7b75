"""What a round asks: the query, the holdout mixed into it, and the reserve behind it.

The backend and the simulation both call ``plan_round``. It only computes: no clock, no network, no global randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model.errors import BadInput
from model.problems import problem
from model.problems.base import Decoding
from model.querying.batches import batch_order, in_order
from model.querying.first_queries import first_query
from model.querying.first_queries.base import FirstQuery
from model.querying.kinds import Kinds, Leave
from model.querying.likeness import Likeness
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs, sizes_of
from model.querying.samplers import check_sampler, sampler
from model.querying.samplers.base import Sampler
from model.querying.selection import GAIN_PER, Candidates, Query, lowest, mask_of, strictly_rising

ROOM = 1e-9  # what a plan leaves free below a score of 1: float64 steps for millions of images that extend its reserve
TRIES, DRAWN = 8, 4  # looks further down an order, each twice as far; random images drawn for each that is missing
EDGE = 1e-6  # how far a holdout image's score keeps off the query's when it comes before the first or after the last
NOTHING = Query(np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class Pool:
    """What is known of every image, by pool index.

    losses: (N,) float32 pretext losses.
    batch_of: (N,) batch numbers, negative where an image has none yet: it is not asked. None while there are no batches
    at all: then every round asks of the whole pool.
    available: (N,) True where an image has no label, no one is asked for it and it is usable.
    labels: (N,) class ids, -1 where there is none. None where nobody keeps them: samplers that need labels refuse then.
    pretext_embeddings: (N, D) features of the pretext network, None where the first query reads none.
    answered: (N,) True where somebody gave an answer to learn from, or one that there is none (a skipped image):
    strategies that spread their picks keep off these. None: where there is a label.
    held: (N,) True where the answer measures the model; None: nowhere.
    twins: (N,) the same number for images that are equal; None where none are.
    looks: (N, D) features of length 1 by which images that look nearly alike are told, zero where there are none; None
    where nobody can tell.
    """

    losses: FloatArray
    batch_of: IntArray | None
    available: BoolArray
    labels: IntArray | None = None
    pretext_embeddings: FloatArray | None = None
    answered: BoolArray | None = None
    held: BoolArray | None = None
    twins: IntArray | None = None
    looks: FloatArray | None = None


@dataclass(frozen=True)
class QuerySettings:
    """How a project asks.

    batches: rounds that have a batch of their own (I). k: images a round asks (K). holdout, reserve: counts, on top
    of k. first_query, sampler, order: names of their registries. classes: of the main task, None where not known.
    problem: a name of ``model.problems``. decoding: what ``Problem.tune`` chose for the model that is asked by.
    gain_per: a name of GAIN_PER.
    """

    batches: int
    k: int
    holdout: int = 0
    reserve: int = 0
    first_query: str = "typical"
    sampler: str = "uncertainty_herding"
    order: str = "interleaved"
    classes: int | None = None
    problem: str = "single_label"
    decoding: Decoding = field(default_factory=dict)
    gain_per: str = GAIN_PER[0]

    def __post_init__(self) -> None:
        """Raise BadInput for counts that make no round, UnknownName for a name that is in no registry."""
        if self.batches < 1 or self.k < 1 or self.holdout < 0 or self.reserve < 0:
            raise BadInput(
                "a round needs at least one batch and one image, and no negative counts: found "
                f"batches={self.batches}, k={self.k}, holdout={self.holdout}, reserve={self.reserve}"
            )
        batch_order(self.order), self.strategy(0)
        check_sampler(self.sampler, problem(self.problem), self.gain_per)

    def strategy(self, number: int) -> FirstQuery | Sampler:
        """Return what chooses the query of round ``number``."""
        return first_query(self.first_query) if number == 0 else sampler(self.sampler)

    def needs(self, number: int) -> frozenset[str]:
        """Return the outputs of the pool that the query of round ``number`` reads, so that only they are computed."""
        return self.strategy(number).needs


@dataclass(frozen=True)
class RoundPlan:
    """A round in serving order.

    indices: (m,) int64, query and holdout together. scores: (m,) float64, strictly rising, in [0, 1).
    holdout: (m,) True where the image only measures the model.
    reserve, reserve_scores: (r,) what comes next, scores above those of the queue, strictly rising, in [0, 1).
    """

    indices: IntArray
    scores: FloatArray
    holdout: BoolArray
    reserve: IntArray
    reserve_scores: FloatArray


def plan_round(
    number: int, pool: Pool, outputs: Outputs | None, settings: QuerySettings, generator: np.random.Generator
) -> RoundPlan:
    """Choose what round ``number`` asks: k images, the holdout on top, and the reserve.

    Round 0, or any round without ``outputs``, is asked by the first query inside batch 0; round i by the sampler inside
    batch i; after the last batch by the sampler over all that is left. Where a batch has too few images left, the
    following batches fill in, then the earlier ones. The holdout is a uniform draw from everything that the query
    left, so that it measures the model on the pool.

    No two of a kind (``kinds``): images that equal, or look like, what was asked before come when nothing else is left,
    and never two of them in one query. The holdout has nothing of a kind with what is learned from; what is of a kind
    with the holdout comes last of all, and measures as well. All parts are shorter only where the pool is exhausted.
    Raises BadInput where arrays do not fit together or an output that the strategy needs is missing.
    """
    _check(pool, outputs)
    planner = _RoundPlanner(number, pool, outputs, settings, generator)
    free = _askable(pool)
    none = np.empty(0, np.int64)
    query = planner.ask(settings.k, free, covered=none, taken=none, most=Leave.EQUAL_TO_ANSWERED)
    left = np.flatnonzero(free & ~mask_of(query.indices, len(free)))
    holdout = planner.draw(settings.holdout, left, query.indices)
    taken = np.concatenate([query.indices, holdout])
    reserve = planner.ask(settings.reserve, free, covered=query.indices, taken=taken)
    return _serve(query, holdout, reserve, planner.scores_are_ranks, generator)


def extend_reserve(
    number: int,
    pool: Pool,
    outputs: Outputs | None,
    settings: QuerySettings,
    generator: np.random.Generator,
    *,
    asked: IntArray,
    above: float,
) -> Query:
    """Choose ``settings.reserve`` further images for round ``number`` behind those that it asks already.

    They are what ``plan_round`` would have put next: the same strategy, the same batch first. asked: pool indices of
    the round so far, whatever became of them. above: their highest score; the new ones lie between it and 1.
    """
    _check(pool, outputs)
    planner = _RoundPlanner(number, pool, outputs, settings, generator)
    more = planner.ask(settings.reserve, _askable(pool), covered=asked, taken=asked)
    # Half of what is left below 1 stays free for the next extension.
    ramp = above + (1 - above) / 2 * np.arange(len(more.indices)) / max(len(more.indices), 1)
    values = np.minimum(ramp if planner.scores_are_ranks else more.scores, max(above, 1 - ROOM))
    scores = strictly_rising(np.concatenate([[above], values]))
    if scores[0] < above:
        raise BadInput(f"no scores are left between {above} and 1 for {len(more.indices)} more images")
    return Query(more.indices, scores[1:])


class _RoundPlanner:
    """Asks the strategy of one round, batch after batch, until there are enough images."""

    def __init__(
        self, number: int, pool: Pool, outputs: Outputs | None, settings: QuerySettings, generator: np.random.Generator
    ) -> None:
        self.pool, self.settings, self.generator = pool, settings, generator
        self.outputs = replace(outputs or Outputs(), pretext_embeddings=pool.pretext_embeddings)
        first = number == 0 or outputs is None
        self.strategy = settings.strategy(0 if first else number)
        self.scores_are_ranks = first or getattr(self.strategy, "scores_are_ranks", True)
        self.batches = _spill(0 if first else number, settings.batches) if pool.batch_of is not None else [None]
        self.to_cover = np.flatnonzero(_askable(pool) | mask_of(_answered(pool), len(pool.losses)))
        self.problem = problem(settings.problem)
        self.answered = _answered(pool)
        self.kinds = _kinds(pool, self.answered, generator)

    def ask(
        self, count: int, free: BoolArray, covered: IntArray, taken: IntArray, most: Leave = Leave.LIKE_EACH_OTHER
    ) -> Query:
        """Return ``count`` of the ``free`` images, most wanted first; fewer where there are not as many.

        covered: what else the round has asked to learn from. taken: all that it has asked, which is not asked again.
        most: what may be asked in the end, where nothing else is left.
        """
        asked = NOTHING
        for leave in Leave if self.kinds is not None else [most]:
            for batch in self.batches if leave <= most else []:
                if len(asked.indices) < count:
                    members = self._members(free, batch, np.concatenate([taken, asked.indices]), leave)
                    asked = self._ask_more(asked, count, members, covered, taken, leave)
        return asked

    def _members(self, free: BoolArray, batch: int | None, away: IntArray, leave: Leave) -> IntArray:
        """Return the pool indices of a batch that are left, ascending."""
        left = free & ~mask_of(away, len(free))
        if self.kinds is not None:
            left = self.kinds.one_of_each(left, away, leave)
        return np.flatnonzero(left if batch is None else left & (self.pool.batch_of == batch))

    def _ask_more(
        self, asked: Query, count: int, members: IntArray, covered: IntArray, taken: IntArray, leave: Leave
    ) -> Query:
        """Return ``asked`` filled up to ``count`` with members, looking ever further down the strategy's order."""
        for number in range(TRIES):
            missing = count - len(asked.indices)
            if missing <= 0 or not len(members):
                break
            away = np.concatenate([self.answered, covered, asked.indices])
            more = self._select(members, missing << number, away)
            if self.kinds is None:
                return _joined(asked, more)
            members = np.setdiff1d(members, more.indices)
            kept = np.flatnonzero(self.kinds.apart(more.indices, np.concatenate([taken, asked.indices]), leave))[
                :missing
            ]
            asked = _joined(asked, Query(more.indices[kept], more.scores[kept]))
        return asked

    def draw(self, count: int, left: IntArray, query: IntArray) -> IntArray:
        """Return ``count`` of the images ``left``, drawn at random, to measure what is learned from ``query`` and more.

        Where nothing is left to learn from, they are of a kind with the holdout, and there may be more of them.
        """
        drawn = self.generator.choice(left, min(count, len(left)), replace=False)
        if self.kinds is None:
            return drawn
        if not len(query):
            alike = self.kinds.of_held(left)
            return self.generator.choice(alike, min(max(count, self.settings.k), len(alike)), replace=False)
        held = self.kinds.measuring(drawn, query)
        for _ in range(TRIES):
            left = np.setdiff1d(left, drawn)
            if len(held) == count or not len(left):
                break
            drawn = self.generator.choice(left, min(DRAWN * count, len(left)), replace=False)
            held = self.kinds.measuring(np.concatenate([held, drawn]), query)[:count]
        return held

    def _in_order(self, members: IntArray) -> IntArray:
        """Return members of a batch, ascending, in the order of the split.

        Where there is none yet, what goes by it gets a random order: images often arrive class by class.
        """
        if self.pool.batch_of is not None:
            return in_order(members, self.pool.losses, self.settings.order)
        return self.generator.permutation(members) if getattr(self.strategy, "by_losses", False) else members

    def _select(self, members: IntArray, count: int, covered: IntArray) -> Query:
        pool, settings = self.pool, self.settings
        candidates = Candidates(
            indices=self._in_order(members),
            losses=pool.losses,
            outputs=self.outputs,
            labels=pool.labels,
            covered=covered,
            classes=settings.classes,
            problem=self.problem,
            decoding=settings.decoding,
            pool=self.to_cover,
            gain_per=settings.gain_per,
        )
        return self.strategy.select(candidates, count, self.generator)


def _kinds(pool: Pool, answered: IntArray, generator: np.random.Generator) -> Kinds | None:
    """Return which images are of a kind; None where nobody can tell."""
    if pool.twins is None and pool.looks is None:
        return None
    held = np.flatnonzero(pool.held) if pool.held is not None else np.empty(0, np.int64)
    twins = pool.twins if pool.twins is not None else np.arange(len(pool.losses))
    likeness = None
    if pool.looks is not None:
        known = np.union1d(np.flatnonzero(pool.available), np.concatenate([answered, held]))
        likeness = Likeness(pool.looks, known, generator.spawn(1)[0])
    return Kinds(twins, likeness, answered, held)


def _joined(first: Query, second: Query) -> Query:
    return Query(np.concatenate([first.indices, second.indices]), np.concatenate([first.scores, second.scores]))


def _askable(pool: Pool) -> BoolArray:
    return pool.available if pool.batch_of is None else pool.available & (pool.batch_of >= 0)


def _answered(pool: Pool) -> IntArray:
    """Return the pool indices that were answered, ascending."""
    if pool.answered is not None:
        return np.flatnonzero(pool.answered)
    return np.flatnonzero(pool.labels >= 0) if pool.labels is not None else np.empty(0, np.int64)


def _spill(batch: int, batches: int) -> Sequence[int | None]:
    """Return the batches to ask in turn, from ``batch`` on; None stands for the whole pool at once."""
    if batch >= batches:
        return [None]
    return [*range(batch, batches), *range(batch)]


def _serve(query: Query, holdout: IntArray, reserve: Query, ranked: bool, generator: np.random.Generator) -> RoundPlan:
    """Mix the holdout into the query at random places and give everything its score."""
    size = len(query.indices) + len(holdout)
    is_holdout = mask_of(generator.choice(size, len(holdout), replace=False), size)
    indices = np.empty(size, np.int64)
    asked, values = query.indices, query.scores
    if not ranked:  # batches that filled in bring scores of their own: the lowest is still served first
        asked, values = lowest(asked, values, len(asked))
    indices[~is_holdout], indices[is_holdout] = asked, holdout
    total = size + len(reserve.indices)
    scores: FloatArray = np.arange(total) / max(total, 1)
    if not ranked:
        scores = strictly_rising(np.concatenate([_between(values, is_holdout), reserve.scores]), below=1 - ROOM)
    return RoundPlan(indices, scores[:size], is_holdout, reserve.indices, scores[size:])


def _between(values: FloatArray, is_holdout: BoolArray) -> FloatArray:
    """Return ``values`` at the places of the query, and values between their neighbours' at the others."""
    if len(values) == 0:
        return np.empty(0)
    low, high = values[0] * (1 - EDGE), values[-1] + (1 - values[-1]) * EDGE
    places = np.concatenate([[-1], np.flatnonzero(~is_holdout), [len(is_holdout)]])
    scores: FloatArray = np.interp(np.arange(len(is_holdout)), places, np.concatenate([[low], values, [high]]))
    return scores


def _check(pool: Pool, outputs: Outputs | None) -> None:
    size = len(pool.losses)
    arrays: dict[str, Any] = {
        name: getattr(pool, name) for name in ("batch_of", "available", "labels", "answered", "held", "twins", "looks")
    }
    sizes = {name: len(array) for name, array in arrays.items() if array is not None}
    sizes |= sizes_of(replace(outputs or Outputs(), pretext_embeddings=pool.pretext_embeddings))
    for name, rows in sizes.items():
        if rows != size:
            raise BadInput(f"'{name}' has {rows} rows for a pool of {size} images")
    lost = int((_askable(pool) & ~np.isfinite(pool.losses)).sum())
    if lost and pool.batch_of is not None:
        raise BadInput(f"{lost} available images have a batch but no finite loss: extract the losses first")
