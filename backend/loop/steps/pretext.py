"""The pretext job (train once, score every image), and what follows from the losses: the batches."""

from collections.abc import Callable

import numpy as np

from backend.errors import Superseded
from backend.loop.context import Work
from backend.loop.facts import pretext_key, split_key, wanted_side
from backend.loop.heartbeat import Progress
from backend.loop.steps.sync import open_bank
from backend.queueing.queues import IO, TimeSlice
from model.data.atomic_files import save_array
from model.data.bank import ImageBank
from model.querying.batches import place, split
from model.querying.first_queries import first_query
from model.querying.outputs import FEATURES

TRAIN_SHARE = 0.9  # of the progress bar
SPLIT_AT_ONCE = 25_000  # images whose batches are written within a second or two


def pretext(work: Work, progress: Progress) -> None:
    """Train the pretext model unless it is there, then give every image without one its loss."""
    from model.pretext.run import extract_losses, train_pretext

    bank = open_bank(work)
    key = pretext_key(work.config, work.side)
    weights = work.files.pretext(key)
    images = work.project_store.tasks.counts(0).ok
    device = work.context.settings.device
    if not weights.exists():
        # Noted before there are weights, so that a kill never leaves a model of an unknown pool, which looks outgrown.
        work.store.projects.set(work.key, pretext_images=images)
        checkpoint = work.files.checkpoint(f"pretext-{key}")
        train_pretext(
            work.config.pretext,
            bank,
            out=weights,
            checkpoint=checkpoint,
            network=work.config.network,
            recipe=work.config.recipe,
            seed=work.config.seed,
            device=device,
            progress=lambda share: progress(TRAIN_SHARE * share),
        )
        checkpoint.unlink(missing_ok=True)
    pool = work.project_store.tasks.pool(len(bank))
    # Losses without their key are what a killed job has left, perhaps under another configuration.
    known = np.isfinite(pool.loss) & (work.project.pretext_key == key)
    unscored = np.flatnonzero((pool.task_id >= 0) & ~known)
    if len(unscored):
        start, stop = int(unscored[0]), int(unscored[-1]) + 1
        losses = extract_losses(
            bank,
            weights,
            start=start,
            stop=stop,
            seed=work.config.seed,
            device=device,
            progress=lambda share: progress(TRAIN_SHARE + (1 - TRAIN_SHARE) * share),
        )
        work.project_store.tasks.set_losses({int(i): float(losses[i - start]) for i in unscored})
    if "pretext_embeddings" in first_query(work.config.first_query).needs:
        _leave_embeddings(work, bank, key)
    work.store.projects.set(work.key, pretext_key=key)
    work.files.drop_other_pretext(key)


def _leave_embeddings(work: Work, bank: ImageBank, key: str) -> None:
    """Write the features of the images that have none yet, for a first query that reads them."""
    from model.pretext.run import extract_embeddings

    path = work.files.pretext_embeddings(key)
    known = np.load(path, mmap_mode="r") if path.exists() else None
    start = 0 if known is None else len(known)
    if known is None or start < len(bank):
        device = work.context.settings.device
        more = extract_embeddings(bank, work.files.pretext(key), start=start, device=device)
        # Those of an earlier release have twice the digits.
        save_array(path, more if known is None else np.concatenate([known.astype(FEATURES, copy=False), more]))


def split_pool(
    work: Work, progress: Progress = lambda share: None, expired: Callable[[], bool] = lambda: False
) -> None:
    """Give every image without one its batch: a fresh split, or a place between those of the existing one.

    A split counts once its key is noted: what a killed one has left is no part of it, but what of that is right is not
    written again. expired: asked now and then; where it is, the next call goes on from there.
    """
    size = work.project_store.tasks.pool_size()
    pool = work.project_store.tasks.pool(size)
    scored, whole = np.isfinite(pool.loss), work.project.split_key is not None
    old = np.flatnonzero(scored & (pool.batch >= 0) & whole)
    new = np.flatnonzero(scored & ((pool.batch < 0) | (not whole)) & (pool.task_id >= 0))
    if not len(new):
        return
    if len(old):
        batches = place(pool.loss[new], pool.loss[old], pool.batch[old], work.config.batch_order)
    else:
        batches = split(pool.loss[new], work.config.rounds, work.config.batch_order)
    wrong = np.flatnonzero(pool.batch[new] != batches)
    began = work.project.split_key, split_key(work.config)
    for start in range(0, len(wrong), SPLIT_AT_ONCE):
        if start and expired():
            return
        _check_as_it_began(work, *began)
        part = wrong[start : start + SPLIT_AT_ONCE]
        work.project_store.tasks.set_batches({int(new[i]): int(batches[i]) for i in part})
        progress(min(start + SPLIT_AT_ONCE, len(wrong)) / len(wrong))
    _check_as_it_began(work, *began)
    work.store.projects.set(work.key, split_key=split_key(work.config))


def _check_as_it_began(work: Work, before: str | None, wanted: str) -> None:
    """Raise Superseded where the configuration changed or the images are fetched anew while the pool is split."""
    work.reload()
    _check_losses(work)
    if (work.project.split_key, split_key(work.config)) != (before, wanted):
        raise Superseded(f"the pool of project {work.key} has changed while it was split")


def split_large(work: Work, progress: Progress) -> None:
    """Split a pool of more than SPLIT_AT_ONCE images; it makes way to other projects after some seconds."""
    split_pool(work, progress, TimeSlice(work.context.queueing, IO).expired)


def restart(work: Work) -> None:
    """Forget what another configuration, or a much smaller pool, has left; labels stay.

    Rounds that somebody has answered stay as well: the next one is planned on the new losses.
    """
    project, config, tasks = work.project, work.config, work.project_store.tasks
    # What tells that there is something to forget goes last: a kill in between has it all done again.
    current = work.project_store.rounds.current()
    if current is not None and current.number == 0 and work.project_store.rounds.counts(0).answered == 0:
        work.project_store.rounds.forget()
    if wanted_side(config) not in (None, project.image_side):
        work.files.drop_outputs()  # they are by the pool indices of the old bank
        tasks.refetch_all()
        work.store.projects.set(work.key, image_side=None)
    if project.pretext_key is not None and project.pretext_key != pretext_key(config, project.image_side):
        tasks.clear_losses()
    elif project.split_key is not None and project.split_key != split_key(config):
        tasks.clear_batches()
    else:  # outgrown
        tasks.clear_losses()
        work.files.drop_pretext(pretext_key(config, project.image_side))
    work.store.projects.set(work.key, pretext_key=None, split_key=None)


def check_current(work: Work) -> None:
    """Raise Superseded if losses or batches are not whole, or not those of the present configuration."""
    _check_losses(work)
    if work.project.split_key != split_key(work.config):
        raise Superseded(f"the batches of project {work.key} are being made")


def _check_losses(work: Work) -> None:
    if work.project.pretext_key != pretext_key(work.config, work.project.image_side):
        raise Superseded(f"the configuration of project {work.key} has changed")
