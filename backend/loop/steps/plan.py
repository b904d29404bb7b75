"""What the next round asks."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.config import ProjectConfig
from backend.loop.keys import pretext_key
from backend.loop.steps.outputs import images_seen, load_outputs, load_pretext_embeddings
from backend.loop.steps.split import check_current
from backend.project_files import Files
from backend.store import AskRole, AskState, ProjectStore, RoundRow, RoundState
from backend.store.rounds import Ask
from backend.store.tasks import PoolView
from model.querying.first_queries import first_query
from model.querying.outputs import IntArray, Outputs, sizes_of
from model.querying.plan import Pool, QuerySettings, extend_reserve, plan_round
from model.querying.samplers import sampler
from model.querying.selection import Query

logger = logging.getLogger(__name__)

FALLBACK = ("even", "least_confidence")  # first query and sampler while what the configured one reads is not there
MIN_RESERVE = 200  # images: what ten quick annotators label while a model trains


def version_of(number: int) -> str:
    """Return the model version under which a round's queue is served."""
    return f"pt4al-r{number:03d}"


@dataclass(frozen=True)
class _Basis:
    """What a round is chosen from: the pool, and what the model before it says of the images.

    seen: images, from the first on, that the model's outputs are about. classes: in the order of the posteriors; a
    model keeps those that it was trained on.
    """

    view: PoolView
    seen: int
    outputs: Outputs | None
    classes: Sequence[str]
    pool: Pool
    settings: QuerySettings


def plan(store: ProjectStore, files: Files, config: ProjectConfig, classes: Sequence[str]) -> None:
    """Plan the next round, unless it is planned already or nothing is left to ask.

    classes: of the label configuration, for the rounds before there is a model.
    """
    started = time.monotonic()
    check_current(store, config)
    current = store.rounds.current()
    if current is not None and current.state != RoundState.CLOSED:
        return
    number = 0 if current is None else current.number + 1
    basis = _basis(store, files, config, classes, number)
    generator = np.random.default_rng((config.seed, number))
    chosen = plan_round(number, basis.pool, basis.outputs, basis.settings, generator)
    roles = [AskRole.HOLDOUT if held else AskRole.QUERY for held in chosen.holdout]
    roles += [AskRole.RESERVE] * len(chosen.reserve)
    query = Query(
        np.concatenate([chosen.indices, chosen.reserve]), np.concatenate([chosen.scores, chosen.reserve_scores])
    )
    asks = _asks(basis, query, roles)
    if asks and store.rounds.plan(number, version_of(number), asks):
        store.rounds.add_seconds(number, plan=time.monotonic() - started)
        logger.info("round %d: %d images planned", number, len(asks))


def extend(store: ProjectStore, files: Files, config: ProjectConfig, classes: Sequence[str]) -> None:
    """Find more reserve for the current round: what the same strategy would have asked next."""
    current = store.rounds.current()
    if current is None:
        return
    basis = _basis(store, files, config, classes, current.number)
    asked = store.rounds.asks(current.number, states=list(AskState))
    more = extend_reserve(
        current.number,
        basis.pool,
        basis.outputs,
        basis.settings,
        np.random.default_rng((config.seed, current.number, len(asked))),
        asked=np.flatnonzero(np.isin(basis.view.task_id, [ask.task_id for ask in asked])),
        above=max((ask.score for ask in asked), default=0.0),
    )
    store.rounds.extend_reserve(current.number, _asks(basis, more, [AskRole.RESERVE] * len(more.indices)))


def _basis(store: ProjectStore, files: Files, config: ProjectConfig, classes: Sequence[str], number: int) -> _Basis:
    view = store.tasks.pool(store.tasks.pool_size())
    model = _model_before(store, number)
    outputs = load_outputs(files, model, len(view.task_id))
    classes = (model.classes if model else None) or classes
    features = None
    if outputs is None and "pretext_embeddings" in first_query(config.first_query).needs:
        key = pretext_key(config, store.row().image_side)
        features = load_pretext_embeddings(files, key, len(view.task_id))
    # Skipped and disputed images too: asking beside them again would teach as little. A holdout teaches nothing there.
    answered = (view.task_id >= 0) & ~view.available & ~view.holdout
    pool = Pool(view.loss, view.batch, view.available, _class_ids(store, view, classes), features, answered)
    settings = _settings(config, pool, outputs, images=int((view.task_id >= 0).sum()), classes=len(classes))
    return _Basis(view, images_seen(files, model), outputs, classes, pool, settings)


def _model_before(store: ProjectStore, number: int) -> RoundRow | None:
    """Return the round before ``number`` if a model was trained after it."""
    last = store.rounds.get(number - 1)
    return last if last is not None and last.has_model else None


def _settings(
    config: ProjectConfig, pool: Pool, outputs: Outputs | None, *, images: int, classes: int
) -> QuerySettings:
    k = config.labels_of_round(images)
    return QuerySettings(
        batches=config.rounds,
        k=k,
        holdout=config.holdout_of_round(k),
        reserve=max(2 * k, MIN_RESERVE),
        first_query=_first_query(config, pool, outputs),
        sampler=_sampler(config, outputs),
        order=config.batch_order,
        classes=classes,
    )


def _first_query(config: ProjectConfig, pool: Pool, outputs: Outputs | None) -> str:
    """Return the configured first query, or the plainest one while what it reads is not there.

    That is so when it was changed after the pretext training.
    """
    known = {"pretext_embeddings"} if pool.pretext_embeddings is not None else set()
    missing = first_query(config.first_query).needs - known if outputs is None else frozenset()
    return _or_fallback(config.first_query, missing, FALLBACK[0])


def _sampler(config: ProjectConfig, outputs: Outputs | None) -> str:
    """Return the configured sampler, or the plainest one while what it reads is not there.

    That is so when the sampler was changed after the last training.
    """
    known = {"labels", *(sizes_of(outputs) if outputs is not None else ())}
    missing = sampler(config.sampler).needs - known if outputs is not None else frozenset()
    return _or_fallback(config.sampler, missing, FALLBACK[1])


def _or_fallback(wanted: str, missing: frozenset[str], fallback: str) -> str:
    if not missing:
        return wanted
    logger.warning("no %s for '%s' yet; asking by '%s'", ", ".join(missing), wanted, fallback)
    return fallback


def _asks(basis: _Basis, query: Query, roles: list[AskRole]) -> list[Ask]:
    """Return the rows of a query, each with what the model predicts of its image."""
    probs = None if basis.outputs is None else basis.outputs.probs
    rows = []
    for index, score, role in zip(query.indices, query.scores, roles, strict=True):
        label, confidence = None, None
        if probs is not None and index < basis.seen:
            best = int(np.argmax(probs[index]))
            label, confidence = basis.classes[best], float(probs[index][best])
        rows.append(Ask(int(basis.view.task_id[index]), float(score), role, label, confidence))
    return rows


def _class_ids(store: ProjectStore, view: PoolView, classes: Sequence[str]) -> IntArray:
    """Return the class ids (N,) of the labels that may be trained on, -1 elsewhere."""
    ids = {name: number for number, name in enumerate(classes)}
    labels = np.full(len(view.task_id), -1, np.int64)
    for index, label, holdout in store.tasks.targets():
        if not holdout and label in ids and index < len(labels):
            labels[index] = ids[label]
    return labels
