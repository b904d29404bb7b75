"""The pretext job: train once, score every image."""

import logging
import shutil
from collections.abc import Callable

import numpy as np

from backend.config import ProjectConfig
from backend.loop.facts import StaleReason
from backend.loop.heartbeat import Progress
from backend.loop.keys import on_encoder, pretext_key
from backend.loop.steps.bank import bank_side, open_bank
from backend.loop.steps.features import Encoders
from backend.loop.steps.twins import spread, twins_of
from backend.project_files import Files
from backend.queueing.queues import TimeSlice
from backend.status.pretext_training import PretextTraining, note_training
from backend.store import ProjectStore
from model.data.atomic_files import save_array
from model.data.bank import ImageBank
from model.querying.first_queries import first_query
from model.querying.outputs import FEATURES, FloatArray, IntArray

TRAIN_SHARE, FIT_SHARE = 0.9, 0.2  # of the progress bar, of a network and of a head on the encoder
SCORED = 32  # images whose losses are written at once: a second, for which a training may wait
FETCHED_AGAIN = frozenset({StaleReason.IMAGE_SIZE, StaleReason.OTHER_SIZES})

logger = logging.getLogger(__name__)


def pretext(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    encoders: Encoders,
    time_slice: TimeSlice,
    progress: Progress,
) -> None:
    """Train the pretext model unless it is there, then give every image without one its loss."""
    if on_encoder(config):
        _pretext_on_encoder(store, files, config, encoders, time_slice.expired, progress)
    else:
        _pretext_of_a_network(store, files, config, encoders.device, progress)


def _pretext_on_encoder(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    encoders: Encoders,
    expired: Callable[[], bool],
    progress: Progress,
) -> None:
    """Fit the heads, then the losses some images at a time; makes way for trainings, which annotators wait for."""
    from model.pretext.heads import Heads

    bank = open_bank(store, files)
    key = pretext_key(config, bank.side)
    heads = Heads(
        config.encoder,
        encoders.folder,
        encoders.device,
        encoders.threads,
        lambda side: encoders.open(config.encoder, side),
    )
    weights, work = files.pretext(key), files.ways_up(key)
    if not weights.exists():
        store.set(pretext_images=store.tasks.counts(0).ok)
        if not heads.fit(
            config.pretext, bank, out=weights, work=work, seed=config.seed, expired=expired,
            progress=lambda share: progress(FIT_SHARE * share),
        ):  # fmt: skip
            return
    if store.row().pretext_key != key:
        # Noted before all losses are there, so that a job that makes way goes on where it was.
        store.tasks.clear_losses()
        store.set(pretext_key=key, split_key=None)
    unscored = _unscored(store, files, bank, key)
    first = unscored.first
    for start in range(0, len(first), SCORED):
        part = first[start : start + SCORED]
        unscored.note(part, heads.losses(bank, weights, part, work=work))
        progress(FIT_SHARE + (1 - FIT_SHARE) * (start + len(part)) / len(first))
        if expired() and start + SCORED < len(first):
            return  # the next job goes on from here, after the trainings that wait
    shutil.rmtree(work, ignore_errors=True)
    files.drop_other_pretext(key)


class _Unscored:
    """The images without a loss, of which equal ones get the same.

    first: the pool indices whose loss has to be computed, ascending.
    """

    def __init__(self, store: ProjectStore, indices: IntArray, twins: IntArray, known: FloatArray) -> None:
        """indices: of the images. twins, known: by pool index, the first equal image, and the losses that are known."""
        self._store, self._indices, self._twins = store, indices, twins
        self._shared = spread(known, twins)
        copied = indices[np.isfinite(self._shared[indices])]
        if len(copied):
            store.tasks.set_losses({int(index): float(self._shared[index]) for index in copied})
        self.first: IntArray = np.unique(twins[np.setdiff1d(indices, copied)])

    def note(self, first: IntArray, losses: FloatArray) -> None:
        """Write the losses of these images, and of those that equal them."""
        self._shared[first] = losses
        equal = self._indices[np.isin(self._twins[self._indices], first)]
        self._store.tasks.set_losses({int(index): float(self._shared[self._twins[index]]) for index in equal})


def _unscored(store: ProjectStore, files: Files, bank: ImageBank, key: str) -> _Unscored:
    """Return the images without a loss.

    Losses without their key are what a killed job has left, perhaps under another configuration.
    """
    pool = store.tasks.pool(len(bank))
    in_use = pool.task_id >= 0
    losses = np.where(in_use & (store.row().pretext_key == key), pool.loss, np.nan)
    return _Unscored(store, np.flatnonzero(in_use & ~np.isfinite(losses)), twins_of(store, files, in_use), losses)


def _pretext_of_a_network(
    store: ProjectStore, files: Files, config: ProjectConfig, device: str, progress: Progress
) -> None:
    from model.pretext.run import extract_losses

    bank = open_bank(store, files)
    key = pretext_key(config, bank_side(store))
    if not files.pretext(key).exists():
        _train(store, files, config, device, bank, lambda share: progress(TRAIN_SHARE * share))
    if not files.pretext_training(key).exists():
        _note_training(files, key, bank)
    unscored = _unscored(store, files, bank, key)
    if len(unscored.first):
        start, stop = int(unscored.first[0]), int(unscored.first[-1]) + 1
        losses = extract_losses(
            bank,
            files.pretext(key),
            start=start,
            stop=stop,
            seed=config.seed,
            device=device,
            progress=lambda share: progress(TRAIN_SHARE + (1 - TRAIN_SHARE) * share),
        )
        unscored.note(unscored.first, losses[unscored.first - start])
    if "pretext_embeddings" in first_query(config.chosen_first_query).needs:
        _write_embeddings(files, bank, key, device)
    store.set(pretext_key=key)
    files.drop_other_pretext(key)


def _train(
    store: ProjectStore, files: Files, config: ProjectConfig, device: str, bank: ImageBank, progress: Progress
) -> None:
    from model.pretext.run import train_pretext

    key = pretext_key(config, bank.side)
    # Noted before there are weights, so that a kill never leaves a model of an unknown pool, which looks outgrown.
    store.set(pretext_images=store.tasks.counts(0).ok)
    checkpoint = files.checkpoint(f"pretext-{key}")
    train_pretext(
        config.pretext,
        bank,
        out=files.pretext(key),
        checkpoint=checkpoint,
        network=config.network,
        recipe=config.recipe,
        epochs=config.pretext_epochs,
        seconds=config.pretext_seconds,
        seed=config.seed,
        device=device,
        progress=progress,
    )
    checkpoint.unlink(missing_ok=True)


def _note_training(files: Files, key: str, bank: ImageBank) -> None:
    """Note how the training went, for people; weights of an earlier release do not tell."""
    from model.pretext.run import read_pretext

    content = read_pretext(files.pretext(key), bank.side)
    if "curve" in content:
        note_training(files, key, PretextTraining(content["seconds"], content["curve"]))


def _write_embeddings(files: Files, bank: ImageBank, key: str, device: str) -> None:
    """Write the features of the images that have none yet, for a first query that reads them."""
    from model.pretext.run import extract_embeddings

    path = files.pretext_embeddings(key)
    known = np.load(path, mmap_mode="r") if path.exists() else None
    start = 0 if known is None else len(known)
    if known is None or start < len(bank):
        more = extract_embeddings(bank, files.pretext(key), start=start, device=device)
        # Those of an earlier release have twice the digits.
        save_array(path, more if known is None else np.concatenate([known.astype(FEATURES, copy=False), more]))


def restart(store: ProjectStore, files: Files, config: ProjectConfig, reason: StaleReason) -> None:
    """Forget what another configuration, or a much smaller pool, has left; labels stay.

    Rounds that somebody has answered stay as well: the next one is planned on the new losses.
    """
    # What tells that there is something to forget goes last: a kill in between has it all done again.
    logger.info("%s: the project follows", reason)
    current = store.rounds.current()
    images_again = reason in FETCHED_AGAIN
    # A first round by features does not depend on losses.
    follows = config.own_network or images_again or reason == StaleReason.MOSTLY_NEW
    if follows and current is not None and current.number == 0 and store.rounds.counts(0).answered == 0:
        store.rounds.forget()
    side = store.row().image_side
    if reason == StaleReason.MOSTLY_NEW and not store.rounds.is_any_task_left():
        files.drop_outputs()  # of models of another pool
    if images_again:
        files.drop_outputs()  # they are by the pool indices of the old bank
        files.drop_features()
        files.drop_pretext(pretext_key(config, side))  # of the same images, where the size stays
        store.tasks.refetch_all()
        store.set(image_side=None, features_key=None)
    elif reason == StaleReason.SPLIT:
        store.tasks.clear_batches()
    else:
        store.tasks.clear_losses()
        if reason in (StaleReason.OUTGROWN, StaleReason.MOSTLY_NEW):
            files.drop_pretext(pretext_key(config, side))
    store.set(pretext_key=None, split_key=None)
    if images_again:
        store.tasks.forget_measured()
    elif reason == StaleReason.MOSTLY_NEW:
        store.tasks.note_measured()
