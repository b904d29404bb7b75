"""What the next round asks."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.config import ProjectConfig
from backend.labeling.base import Labeling
from backend.loop.keys import pretext_key, split_key
from backend.loop.steps.features import read_features
from backend.loop.steps.outputs import load_outputs, load_pretext_embeddings
from backend.loop.steps.split import check_current
from backend.loop.steps.twins import twins_of
from backend.project_files import Files
from backend.status.predictions import ModelOutputs, open_outputs
from backend.store import AskRole, AskState, ProjectStore, RoundRow, RoundState
from backend.store.rounds import Ask
from backend.store.tasks import PoolView
from model.learners.scaling import query_features
from model.problems import problem
from model.problems.base import Prediction, Problem
from model.querying.first_queries import first_query
from model.querying.outputs import DERIVED, IntArray, Outputs, sizes_of
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

    model: its predictions, for the images that it has seen. outputs: what samplers read, for the whole pool.
    """

    view: PoolView
    model: ModelOutputs | None
    outputs: Outputs | None
    pool: Pool
    settings: QuerySettings


def plan(store: ProjectStore, files: Files, config: ProjectConfig, labeling: Labeling) -> None:
    """Plan the next round, unless it is planned already or nothing is left to ask."""
    started = time.monotonic()
    check_current(store, config)
    current = store.rounds.current()
    if current is not None and current.state != RoundState.CLOSED:
        return
    number = 0 if current is None else current.number + 1
    basis = _basis(store, files, config, labeling, number)
    generator = np.random.default_rng((config.seed, number))
    chosen = plan_round(number, basis.pool, basis.outputs, basis.settings, generator)
    roles = [AskRole.HOLDOUT if held else AskRole.QUERY for held in chosen.holdout]
    roles += [AskRole.RESERVE] * len(chosen.reserve)
    query = Query(
        np.concatenate([chosen.indices, chosen.reserve]), np.concatenate([chosen.scores, chosen.reserve_scores])
    )
    asks = _asks(basis, query, roles)
    if asks and store.rounds.plan(number, version_of(number), asks, problem(labeling.problem).quality):
        store.rounds.add_seconds(number, plan=time.monotonic() - started)
        logger.info("round %d: %d images planned", number, len(asks))


def extend(store: ProjectStore, files: Files, config: ProjectConfig, labeling: Labeling) -> None:
    """Find more reserve for the current round: what the same strategy would have asked next."""
    current = store.rounds.current()
    if current is None:
        return
    basis = _basis(store, files, config, labeling, current.number)
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


def _basis(store: ProjectStore, files: Files, config: ProjectConfig, labeling: Labeling, number: int) -> _Basis:
    view = store.tasks.pool(store.tasks.pool_size())
    row = _model_before(store, labeling, number)
    bank = None if config.own_network else read_features(store, files)
    looks = query_features(bank, len(view.task_id)) if bank is not None else None
    outputs = load_outputs(files, row, len(view.task_id), looks, sampler(config.sampler).needs)
    classes = (row.classes if row else None) or labeling.classes  # a model keeps those that it was trained on
    features = None
    if outputs is None and "pretext_embeddings" in first_query(config.chosen_first_query).needs:
        key = pretext_key(config, store.row().image_side)
        features = looks if looks is not None else load_pretext_embeddings(files, key, len(view.task_id))
    # Skipped and disputed images too: asking beside them again would teach as little. A holdout teaches nothing there.
    answered = (view.task_id >= 0) & ~view.available & ~view.holdout
    class_ids = _class_ids(store, view, problem(labeling.problem), classes)
    available, batches = view.available, view.batch if bank is None or _has_batches(store, config) else None
    if bank is not None:
        available = available & bank.knows(np.arange(len(available)))
    held = (view.task_id >= 0) & ~view.available & view.holdout
    twins = twins_of(store, files, view.task_id >= 0)
    pool = Pool(view.loss, batches, available, class_ids, features, answered, held, twins, looks)
    sampled = _sampler(config, labeling, outputs)
    k = config.labels_of_round(int((view.task_id >= 0).sum()), store.tasks.counts(time.time()).recent)
    settings = QuerySettings(
        batches=config.rounds if batches is None or config.own_network else int(batches.max(initial=0)) + 1,
        k=k,
        holdout=config.holdout_of_round(k),
        reserve=max(2 * k, MIN_RESERVE),
        first_query=_first_query(config, pool, outputs),
        sampler=sampled,
        order=config.batch_order,
        classes=len(classes) or None,
        problem=labeling.problem,
        decoding=(row.decoding if row else None) or {},
        gain_per=config.gain_per if sampled == config.sampler else QuerySettings.gain_per,
    )
    return _Basis(view, open_outputs(files, row) if row is not None else None, outputs, pool, settings)


def _has_batches(store: ProjectStore, config: ProjectConfig) -> bool:
    """Tell whether losses and batches of the present configuration are there; with an encoder, rounds do not wait."""
    row = store.row()
    return row.pretext_key == pretext_key(config, row.image_side) and row.split_key == split_key(config)


def _model_before(store: ProjectStore, labeling: Labeling, number: int) -> RoundRow | None:
    """Return the round before ``number`` if a model of the same problem was trained after it."""
    last = store.rounds.get(number - 1)
    return last if last is not None and last.has_model and last.problem == labeling.problem else None


def _first_query(config: ProjectConfig, pool: Pool, outputs: Outputs | None) -> str:
    """Return the configured first query, or the plainest one while what it reads is not there.

    That is so when it was changed after the pretext training.
    """
    known = {"pretext_embeddings"} if pool.pretext_embeddings is not None else set()
    name = config.chosen_first_query
    missing = first_query(name).needs - known if outputs is None else frozenset()
    return _or_fallback(name, missing, FALLBACK[0])


def _sampler(config: ProjectConfig, labeling: Labeling, outputs: Outputs | None) -> str:
    """Return the configured sampler, or the plainest one while what it reads is not there.

    That is so when the sampler was changed after the last training.
    """
    computed = DERIVED & problem(labeling.problem).outputs
    known = {"labels", *computed, *(sizes_of(outputs) if outputs is not None else ())}
    missing = sampler(config.sampler).needs - known if outputs is not None else frozenset()
    return _or_fallback(config.sampler, missing, FALLBACK[1])


def _or_fallback(wanted: str, missing: frozenset[str], fallback: str) -> str:
    if not missing:
        return wanted
    logger.warning("no %s for '%s' yet; asking by '%s'", ", ".join(missing), wanted, fallback)
    return fallback


def _asks(basis: _Basis, query: Query, roles: list[AskRole]) -> list[Ask]:
    """Return the rows of a query, each with what the model predicts of its image."""
    predicted: dict[int, tuple[Prediction, float]] = {}
    if basis.model is not None:
        seen = query.indices[query.indices < basis.model.size]
        rows = zip(seen, basis.model.predict(seen), basis.model.confidence(seen), strict=True)
        predicted = {int(index): (prediction, float(confidence)) for index, prediction, confidence in rows}
    return [
        Ask(int(basis.view.task_id[index]), float(score), role, *predicted.get(int(index), (None, None)))
        for index, score, role in zip(query.indices, query.scores, roles, strict=True)
    ]


def _class_ids(store: ProjectStore, view: PoolView, of: Problem, classes: Sequence[str]) -> IntArray | None:
    """Return the class ids (N,) of the labels that may be trained on, -1 elsewhere; None without one class an image."""
    if "labels" not in of.outputs:
        return None
    known = [
        (index, target)
        for index, target, holdout in store.tasks.targets()
        if not holdout and index < len(view.task_id) and of.fits(target, classes)
    ]
    labels = np.full(len(view.task_id), -1, np.int64)
    labels[[index for index, _ in known]] = of.encode([target for _, target in known], classes)
    return labels
