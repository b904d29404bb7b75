"""The sync job: all changes, then all images, into the bank."""

import logging
import shutil
import time
from itertools import islice
from pathlib import Path

import numpy as np

from backend.errors import Superseded
from backend.items.fetching import FetchedImage, download_images
from backend.loop.context import Work
from backend.loop.facts import wanted_side
from backend.loop.heartbeat import Progress
from backend.loop.steps.pull import fetch_settings, pull_changes, reconcile
from backend.queueing.queues import IO, TimeSlice
from backend.store.task_counts import TaskCounts
from backend.store.tasks import Failure
from model.data.bank import ImageBank
from model.data.decoding import auto_side
from model.errors import BankError

logger = logging.getLogger(__name__)

COMMIT_IMAGES = 256  # images per append to the bank and note in the store
FETCH_IMAGES = 4096  # images per look into the store
SAMPLE_IMAGES, SAMPLE_SIDE = 32, 32  # images that decide the side of the bank, and the side while they do (pixels)
TRIES = 4  # of an image whose source fails in a way that may pass, before it is listed as broken
FIRST_RETRY_S, LAST_RETRY_S = 20.0, 3600.0


def sync(work: Work, progress: Progress) -> None:
    """Bring the store and the bank up to date with Label Studio."""
    pull_changes(work)
    if fetch_settings(work.studio, work.project).task_number != work.project_store.tasks.counts(0).tasks:
        reconcile(work)
    total = done = work.project_store.tasks.counts(time.time()).ok
    turn = TimeSlice(work.context.queueing, IO)
    while refs := work.project_store.tasks.to_fetch(time.time(), FETCH_IMAGES):
        if work.project.image_side is None:
            _choose_side(work, refs)
        bank = open_bank(work) if work.project.image_side is not None else None
        counts: TaskCounts = work.project_store.tasks.counts(time.time())
        total = max(total, counts.ok + counts.new)
        fetched = download_images(work.studio, refs, bank.side if bank is not None else SAMPLE_SIDE)
        while part := list(islice(fetched, COMMIT_IMAGES)):
            _commit(work, bank, part, dict(refs))
            done += len(part)
            progress(min(done / max(total, 1), 1.0))
            if turn.expired():
                return  # the next job goes on from here, after those of other projects
        work.reload()


def open_bank(work: Work) -> ImageBank:
    """Open the project's bank.

    Raises:
        Superseded: it is lost, damaged or older than the store; its images are fetched again.
    """
    folder = work.files.bank(work.side)
    expected = work.project_store.tasks.pool_size()
    try:
        bank = ImageBank.open(folder)
        if len(bank) < expected:
            raise BankError(f"the image bank in {folder} holds {len(bank)} of {expected} images")
        return bank
    except BankError as error:
        if folder.exists():
            _set_aside(folder)
        if not expected:
            return ImageBank.create(folder, work.side)
        logger.warning("%s: all images are fetched again", error)
        # First of all what lies by the pool indices of the lost bank: a kill in between must not leave it to the new.
        work.files.drop_outputs()
        work.project_store.tasks.refetch_all()
        work.store.projects.set(work.key, image_side=None, pretext_key=None, split_key=None)
        raise Superseded(f"{error}: all images are fetched again") from error


def _set_aside(folder: Path) -> None:
    """Keep what cannot be read beside its place, in case that somebody wants to look at it."""
    aside = folder.with_name(f"{folder.name}-damaged")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def _choose_side(work: Work, refs: list[tuple[int, str]]) -> None:
    """Fix the side of the bank, as configured or as the first images have it; not while none can be read."""
    side = wanted_side(work.config) or _side_of(work, refs)
    if side is not None:
        work.files.drop_banks()  # of a former side, whose images are all fetched again
        work.store.projects.set(work.key, image_side=side)
        work.reload()


def _side_of(work: Work, refs: list[tuple[int, str]]) -> int | None:
    # Spread over the pool: uploads often come sorted by source, and sources differ in size.
    step = max(len(refs) // SAMPLE_IMAGES, 1)
    spread = [ref for offset in range(step) for ref in refs[offset::step]]
    usable = (image.size for image in download_images(work.studio, spread, SAMPLE_SIDE) if image.size is not None)
    sizes = list(islice(usable, SAMPLE_IMAGES))
    return auto_side(sizes) if sizes else None


def _commit(work: Work, bank: ImageBank | None, part: list[FetchedImage], refs: dict[int, str]) -> None:
    good = [image for image in part if image.pixels is not None]
    if good and bank is not None:
        # Images first, note after: a kill in between leaves rows in the bank that no task points to.
        first = bank.append(np.stack([image.pixels for image in good if image.pixels is not None]))
        work.project_store.tasks.images_fetched({image.task_id: first + i for i, image in enumerate(good)}, refs)
    failed = [image for image in part if image.pixels is None]
    if failed:
        attempts = work.project_store.tasks.attempts([image.task_id for image in failed])
        work.project_store.tasks.images_failed(
            {image.task_id: _failure(image, attempts[image.task_id]) for image in failed},
            refs,
        )


def _failure(image: FetchedImage, attempts: int) -> Failure:
    """Say when an image is tried again: ever more rarely, for as long as its source may come back."""
    wait = min(FIRST_RETRY_S * 2.0 ** min(attempts, 20), LAST_RETRY_S)
    return Failure(
        image.error or "unknown",
        time.time() + wait if image.transient else None,
        quarantined=not image.transient or attempts + 1 >= TRIES,
    )
