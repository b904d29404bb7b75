"""Choosing what the next round asks."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from backend.loop.context import Work
from backend.loop.steps.pretext import check_current
from backend.store import AskRole, AskState, RoundRow, RoundState
from backend.store.rounds import Ask
from backend.store.tasks import PoolView
from model.outputs import FloatArray, Outputs
from model.query import Pool, QuerySettings, RoundPlan, plan_round

logger = logging.getLogger(__name__)

MIN_RESERVE = 200  # images: what ten quick annotators label while a model trains


def version_of(number: int) -> str:
    """Give the model version under which a round's queue is served."""
    return f"pt4al-r{number:03d}"


def plan(work: Work) -> None:
    """Plan the next round, unless it is planned already or nothing is left to ask."""
    started = time.monotonic()
    work.reload()
    check_current(work)
    current = work.store.rounds.current(work.key)
    if current is not None and current.state != RoundState.CLOSED:
        return
    number = 0 if current is None else current.number + 1
    pool = work.store.tasks.pool(work.key, work.store.tasks.pool_size(work.key))
    asks = _asks(work, number, pool, current)
    if asks and work.store.rounds.plan(work.key, number, version_of(number), asks):
        work.store.rounds.add_seconds(work.key, number, plan=time.monotonic() - started)
        logger.info("project %s round %d: %d images planned", work.key, number, len(asks))


def extend(work: Work) -> None:
    """Find more reserve for the current round: the least certain images that it does not ask yet."""
    current = work.store.rounds.current(work.key)
    if current is None:
        return
    pool = work.store.tasks.pool(work.key, work.store.tasks.pool_size(work.key))
    asked = work.store.rounds.asks(work.key, current.number, states=list(AskState))
    known = np.array([ask.task_id for ask in asked], np.int64)
    free = np.flatnonzero(pool.available & (pool.batch >= 0) & ~np.isin(pool.task_id, known))
    model = work.store.rounds.newest_model(work.key)
    probs = load_probs(work, model, len(pool.task_id))
    order = free if probs is None else free[np.argsort(probs[free].max(axis=1), kind="stable")]
    order = order[:MIN_RESERVE]
    top = max((ask.score for ask in asked), default=0.0)
    # Scores stay above those of the queue and below 1, however often the reserve is extended.
    scores = top + (1 - top) * (np.arange(len(order)) + 1) / (2 * (len(order) + 1))
    work.store.rounds.extend_reserve(
        work.key, current.number, _rows(work, order, scores, [AskRole.RESERVE] * len(order), pool, probs, model)
    )


def load_probs(work: Work, model: RoundRow | None, size: int) -> FloatArray | None:
    """Give a model's posteriors (size, C); images that it has not seen get NaN-free uniform ones."""
    if model is None or model.classes is None:
        return None
    path: Path = work.files.probs(model.number)
    if not path.exists():
        return None
    probs: FloatArray = np.load(path, mmap_mode="r")
    if len(probs) >= size:
        return probs[:size]
    unseen = np.full((size - len(probs), probs.shape[1]), 1 / probs.shape[1], np.float32)
    return np.concatenate([probs, unseen])


def _asks(work: Work, number: int, pool: PoolView, last: RoundRow | None) -> list[Ask]:
    size = len(pool.task_id)
    model = last if last is not None and last.has_model else None
    probs = load_probs(work, model, size)
    outputs = None if probs is None else Outputs(probs=probs, **_more_outputs(work, model, size))
    ok = int((pool.task_id >= 0).sum())
    k = work.config.labels_of_round(ok)
    settings = QuerySettings(
        batches=work.config.rounds,
        k=k,
        holdout=work.config.holdout_of_round(k),
        reserve=max(2 * k, MIN_RESERVE),
        first_query=work.config.first_query,
        sampler=work.config.sampler,
        order=work.config.batch_order,
        classes=len(work.spec.classes),
    )
    chosen = plan_round(
        number,
        Pool(pool.loss, pool.batch, pool.available, _class_ids(work, pool)),
        outputs,
        settings,
        np.random.default_rng((work.config.seed, number)),
    )
    roles = [AskRole.HOLDOUT if held else AskRole.QUERY for held in chosen.holdout]
    roles += [AskRole.RESERVE] * len(chosen.reserve)
    return _rows(work, *_joined(chosen), roles, pool, probs, model)


def _joined(chosen: RoundPlan) -> tuple[Any, Any]:
    indices = np.concatenate([chosen.indices, chosen.reserve])
    return indices, np.concatenate([chosen.scores, chosen.reserve_scores])


def _rows(
    work: Work,
    indices: Any,
    scores: Any,
    roles: list[AskRole],
    pool: PoolView,
    probs: FloatArray | None,
    model: RoundRow | None,
) -> list[Ask]:
    classes = (model.classes or []) if model else []
    rows = []
    for index, score, role in zip(indices, scores, roles, strict=True):
        label, confidence = None, None
        if probs is not None and classes:
            best = int(np.argmax(probs[index]))
            label, confidence = classes[best], float(probs[index][best])
        rows.append(Ask(int(pool.task_id[index]), float(score), role, label, confidence))
    return rows


def _class_ids(work: Work, pool: PoolView) -> Any:
    """Class ids (N,) of the labels that may be trained on, -1 elsewhere."""
    ids = {name: number for number, name in enumerate(work.spec.classes)}
    labels = np.full(len(pool.task_id), -1, np.int64)
    for index, label, holdout in work.store.tasks.labels(work.key):
        if not holdout and label in ids and index < len(labels):
            labels[index] = ids[label]
    return labels


def _more_outputs(work: Work, model: RoundRow | None, size: int) -> dict[str, Any]:
    """Give what the configured sampler needs beyond posteriors, as the retraining has left it."""
    if model is None:
        return {}
    path = work.files.embeddings(model.number)
    if not path.exists():
        return {}
    embeddings = np.load(path, mmap_mode="r")
    return {"embeddings": embeddings[:size]} if len(embeddings) >= size else {}
