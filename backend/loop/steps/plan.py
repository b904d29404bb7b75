"""Choosing what the next round asks."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.loop.context import Work
from backend.loop.steps.outputs import load_outputs, load_pretext_embeddings, seen_by
from backend.loop.steps.pretext import check_current
from backend.store import AskRole, AskState, RoundRow, RoundState
from backend.store.rounds import Ask
from backend.store.tasks import PoolView
from model.querying.first_queries import first_query
from model.querying.outputs import DERIVED, Outputs, sizes_of
from model.querying.plan import Pool, QuerySettings, extend_reserve, plan_round
from model.querying.samplers import sampler
from model.querying.selection import Query

logger = logging.getLogger(__name__)

FALLBACK = ("even", "least_confidence")  # first query and sampler while what the configured one reads is not there
MIN_RESERVE = 200  # images: what ten quick annotators label while a model trains


def version_of(number: int) -> str:
    """Give the model version under which a round's queue is served."""
    return f"pt4al-r{number:03d}"


@dataclass(frozen=True)
class _Basis:
    """What a round is chosen from: the pool, and what the model before it says of the images.

    classes: in the order of the posteriors; a model keeps those that it was trained on.
    """

    view: PoolView
    model: RoundRow | None
    outputs: Outputs | None
    classes: Sequence[str]
    pool: Pool
    settings: QuerySettings


def plan(work: Work) -> None:
    """Plan the next round, unless it is planned already or nothing is left to ask."""
    started = time.monotonic()
    work.reload()
    check_current(work)
    current = work.project_store.rounds.current()
    if current is not None and current.state != RoundState.CLOSED:
        return
    number = 0 if current is None else current.number + 1
    basis = _basis(work, number)
    generator = np.random.default_rng((work.config.seed, number))
    chosen = plan_round(number, basis.pool, basis.outputs, basis.settings, generator)
    roles = [AskRole.HOLDOUT if held else AskRole.QUERY for held in chosen.holdout]
    roles += [AskRole.RESERVE] * len(chosen.reserve)
    asked = Query(
        np.concatenate([chosen.indices, chosen.reserve]), np.concatenate([chosen.scores, chosen.reserve_scores])
    )
    asks = _asks(work, basis, asked, roles)
    if asks and work.project_store.rounds.plan(number, version_of(number), asks):
        work.project_store.rounds.add_seconds(number, plan=time.monotonic() - started)
        logger.info("round %d: %d images planned", number, len(asks))


def extend(work: Work) -> None:
    """Find more reserve for the current round: what the same strategy would have asked next."""
    current = work.project_store.rounds.current()
    if current is None:
        return
    basis = _basis(work, current.number)
    asked = work.project_store.rounds.asks(current.number, states=list(AskState))
    more = extend_reserve(
        current.number,
        basis.pool,
        basis.outputs,
        basis.settings,
        np.random.default_rng((work.config.seed, current.number, len(asked))),
        asked=np.flatnonzero(np.isin(basis.view.task_id, [ask.task_id for ask in asked])),
        above=max((ask.score for ask in asked), default=0.0),
    )
    rows = _asks(work, basis, more, [AskRole.RESERVE] * len(more.indices))
    work.project_store.rounds.extend_reserve(current.number, rows)


def _basis(work: Work, number: int) -> _Basis:
    view = work.project_store.tasks.pool(work.project_store.tasks.pool_size())
    model = _model_before(work, number)
    outputs = load_outputs(work, model, len(view.task_id))
    classes = (model.classes if model else None) or work.spec.classes
    pool = _pool(work, view, outputs, classes)
    return _Basis(view, model, outputs, classes, pool, _settings(work, pool, outputs, view, len(classes)))


def _model_before(work: Work, number: int) -> RoundRow | None:
    """Give the round before ``number`` if a model was trained after it."""
    last = work.project_store.rounds.get(number - 1)
    return last if last is not None and last.has_model else None


def _settings(work: Work, pool: Pool, outputs: Outputs | None, view: PoolView, classes: int) -> QuerySettings:
    k = work.config.labels_of_round(int((view.task_id >= 0).sum()))
    return QuerySettings(
        batches=work.config.rounds,
        k=k,
        holdout=work.config.holdout_of_round(k),
        reserve=max(2 * k, MIN_RESERVE),
        first_query=_first_query(work, pool, outputs),
        sampler=_sampler(work, outputs),
        order=work.config.batch_order,
        classes=classes,
    )


def _pool(work: Work, view: PoolView, outputs: Outputs | None, classes: Sequence[str]) -> Pool:
    features = None
    if outputs is None and "pretext_embeddings" in first_query(work.config.first_query).needs:
        features = load_pretext_embeddings(work, len(view.task_id))
    # Skipped and disputed images too: asking beside them again would teach as little. A holdout teaches nothing there.
    answered = (view.task_id >= 0) & ~view.available & ~view.holdout
    return Pool(view.loss, view.batch, view.available, _class_ids(work, view, classes), features, answered)


def _first_query(work: Work, pool: Pool, outputs: Outputs | None) -> str:
    """Give the configured first query, or the plainest one while what it reads is not there.

    That is so when it was changed after the pretext training.
    """
    there = {"pretext_embeddings"} if pool.pretext_embeddings is not None else set()
    missing = first_query(work.config.first_query).needs - there if outputs is None else frozenset()
    return _or_fallback(work, work.config.first_query, missing, FALLBACK[0])


def _sampler(work: Work, outputs: Outputs | None) -> str:
    """Give the configured sampler, or the plainest one while what it reads is not there.

    That is so when the sampler was changed after the last training.
    """
    there = {"labels", *DERIVED, *(sizes_of(outputs) if outputs is not None else ())}
    missing = sampler(work.config.sampler).needs - there if outputs is not None else frozenset()
    return _or_fallback(work, work.config.sampler, missing, FALLBACK[1])


def _or_fallback(work: Work, wanted: str, missing: frozenset[str], fallback: str) -> str:
    if not missing:
        return wanted
    logger.warning("no %s for '%s' yet; asking by '%s'", ", ".join(missing), wanted, fallback)
    return fallback


def _asks(work: Work, basis: _Basis, asked: Query, roles: list[AskRole]) -> list[Ask]:
    """Give the rows of a query, each with what the model takes its image for."""
    probs = None if basis.outputs is None else basis.outputs.probs
    seen = seen_by(work, basis.model)
    rows = []
    for index, score, role in zip(asked.indices, asked.scores, roles, strict=True):
        label, confidence = None, None
        if probs is not None and index < seen:
            best = int(np.argmax(probs[index]))
            label, confidence = basis.classes[best], float(probs[index][best])
        rows.append(Ask(int(basis.view.task_id[index]), float(score), role, label, confidence))
    return rows


def _class_ids(work: Work, pool: PoolView, classes: Sequence[str]) -> Any:
    """Class ids (N,) of the labels that may be trained on, -1 elsewhere."""
    ids = {name: number for number, name in enumerate(classes)}
    labels = np.full(len(pool.task_id), -1, np.int64)
    for index, label, holdout in work.project_store.tasks.labels():
        if not holdout and label in ids and index < len(labels):
            labels[index] = ids[label]
    return labels
