"""What follows from the losses: the batches."""

from collections.abc import Callable

import numpy as np

from backend.config import ProjectConfig
from backend.errors import Superseded
from backend.labeling.project import config_of
from backend.loop.decide import INLINE_SPLIT
from backend.loop.heartbeat import Progress
from backend.loop.keys import features_key, pretext_key, split_key
from backend.loop.steps.twins import spread, twins_of
from backend.project_files import Files
from backend.store import ProjectRow, ProjectStore
from model.querying.batches import place, split

PART = INLINE_SPLIT  # images whose batches are written in one go


def split_pool(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    progress: Progress = lambda share: None,
    expired: Callable[[], bool] = lambda: False,
) -> None:
    """Give every image without one its batch: a fresh split, or a place between those of the existing one.

    A split counts once its key is noted: what a killed one has left is no part of it, but what of that is right is not
    written again. Equal images share a batch, in which they count once. expired: asked now and then; where it is True,
    the next call goes on from there.
    """
    began = store.row()
    pool = store.tasks.pool(store.tasks.pool_size())
    scored, whole = np.isfinite(pool.loss), began.split_key is not None
    old = np.flatnonzero(scored & (pool.batch >= 0) & whole)
    new = np.flatnonzero(scored & ((pool.batch < 0) | (not whole)) & (pool.task_id >= 0))
    if not len(new):
        return
    twins = twins_of(store, files, scored & (pool.task_id >= 0))
    known = np.full(len(pool.batch), np.nan)
    known[old] = pool.batch[old]
    known = spread(known, twins)
    first = np.unique(twins[new[np.isnan(known[new])]])  # the rest equals images that have a batch
    if len(old):
        known[first] = place(pool.loss[first], pool.loss[old], pool.batch[old], config.batch_order)
    else:
        known[first] = split(pool.loss[first], config.batches_of(len(first)), config.batch_order)
    batches = known[twins[new]].astype(np.int64)
    wrong = np.flatnonzero(pool.batch[new] != batches)
    for start in range(0, len(wrong), PART):
        if start and expired():
            return
        _check_unchanged(store, began)
        part = wrong[start : start + PART]
        store.tasks.set_batches({int(new[i]): int(batches[i]) for i in part})
        progress(min(start + PART, len(wrong)) / len(wrong))
    _check_unchanged(store, began)
    store.set(split_key=split_key(config))


def check_current(store: ProjectStore, config: ProjectConfig) -> None:
    """Raise Superseded if what a round is chosen by is not whole, or not that of the present configuration."""
    row = store.row()
    if not config.own_network:
        if row.features_key != features_key(config, row.encoder_side):
            raise Superseded(f"the images of project {store.project_id} are being embedded")
        return
    _check_losses(row, config)
    if row.split_key != split_key(config):
        raise Superseded(f"the batches of project {store.project_id} are being made")


def _check_unchanged(store: ProjectStore, began: ProjectRow) -> None:
    """Raise Superseded where the configuration changed or the images are fetched anew while the pool is split."""
    row = store.row()
    config = config_of(row)
    _check_losses(row, config)
    before = split_key(config_of(began))
    if (row.split_key, split_key(config)) != (began.split_key, before):
        raise Superseded(f"the pool of project {store.project_id} has changed while it was split")


def _check_losses(row: ProjectRow, config: ProjectConfig) -> None:
    if row.pretext_key != pretext_key(config, row.image_side):
        raise Superseded(f"the configuration of project {row.id} has changed")
