"""The sync job: all changes, then all images, into the bank."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from backend.config import ProjectConfig
from backend.items.fetching import SAMPLE_SIDE, FetchedImage, sample_images
from backend.loop.facts import MANY_LATER, MOSTLY_LATER, PATIENCE_S, StaleReason
from backend.loop.keys import configured_side, features_key
from backend.loop.steps.bank import bank_ranges, open_bank, set_aside
from backend.loop.steps.features import EncoderBanks, Encoders, open_banks, open_views
from backend.loop.steps.places import FreePlaces, place
from backend.loop.steps.pull import fetch_settings, pull_changes, reconcile
from backend.loop.steps.shards import Recipe, Shards
from backend.project_files import Files
from backend.queueing.queues import TimeSlice
from backend.store import ProjectStore
from backend.store.tasks import Failure
from backend.studio.project import StudioProject
from model.data.bank import ImageBank
from model.data.decoding import Sides, auto_side
from model.data.ranges import Depth, Ranges, ranges_of, widened
from model.data.views import ViewBank
from model.encoders.registry import SIDES
from model.encoders.registry import auto_side as encoder_side
from model.errors import BankError
from model.querying.outputs import IntArray
from model.training.registry import RECIPE_INFOS

logger = logging.getLogger(__name__)

FETCH_IMAGES = 4096  # images per look into the store
FIRST_READ_S = 15.0  # for which tasks are read before the images of a first queue are fetched
TRIES = 4  # of an image whose source fails in a way that may pass, before it is listed as broken
FIRST_RETRY_S, LAST_RETRY_S = 20.0, 3600.0

ImageRefs = Sequence[tuple[int, str]]  # task id and reference of each image


@dataclass(frozen=True)
class _Filled:
    """What the images are written to.

    bank, free: None while its side is not known. banks, views: None where there are none, or the job EMBED fills them.
    """

    bank: ImageBank | None
    free: FreePlaces | None = None
    banks: EncoderBanks | None = None
    views: ViewBank | None = None

    @property
    def recipe(self) -> Recipe:
        """What is made of an image."""
        if self.bank is None or self.banks is None:
            return Recipe(self.sides, None if self.bank is None else self.bank.ranges)
        return Recipe(self.sides, self.bank.ranges, self.banks.encoder.name, self.banks.activations is not None)

    @property
    def sides(self) -> Sides:
        """The sides that images are decoded to."""
        if self.bank is None:
            return Sides(SAMPLE_SIDE)
        encoder = self.banks.encoder.side if self.banks is not None else None
        return Sides(self.bank.side, encoder, self.views.side if self.views is not None else None)


def sync(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    config: ProjectConfig,
    encoders: Encoders,
    time_slice: TimeSlice,
    shards: Shards,
    view_side: int | None = None,
) -> None:
    """Bring the store, the bank, the features and the views up to date with Label Studio.

    view_side: of the views that the project's problem asks for, in pixels.
    """
    waits = is_first_awaited(store)
    complete = pull_changes(store, studio, seconds=FIRST_READ_S if waits else math.inf)
    if complete and fetch_settings(studio, store.row()).task_number != store.tasks.counts(0).tasks:
        reconcile(store, studio)
    if _must_restart(store, studio, files, config):
        return
    counts = store.tasks.counts(time.time())
    total, done = counts.ok, counts.ok - counts.renewed
    while refs := _to_fetch(store):
        if store.row().image_side is None:
            _choose_sides(store, studio, files, config)
        bank = _bank_to_fill(store, files)
        filled = _Filled(bank)
        if bank is not None:
            banks = _banks_to_fill(store, files, config, encoders)
            filled = _Filled(bank, FreePlaces(store, bank), banks, _views_to_fill(store, files, view_side))
        counts = store.tasks.counts(time.time())
        total = max(total, counts.ok + counts.new)
        fetched = shards.images(refs, filled.recipe)
        while part := list(islice(fetched, filled.recipe.size)):
            if bank is not None and _widen_ranges(store, files, bank, part):
                break  # the images are fetched again, and read by the wider ranges
            _commit(store, filled, part, dict(refs))
            done += len(part)
            shards.progress(min(done / max(total, 1), 1.0))
            if time_slice.expired() or (waits and not is_first_awaited(store)):
                return  # the next job goes on from here, after those of other projects, or after the first queue
    shards.clear()
    _note_later(store, studio, files, config)


def _to_fetch(store: ProjectStore) -> ImageRefs:
    """Return the next images; before the first queue drawn from the whole pool, as uploads often come sorted.

    Those with a renewed address go last: they stay in use meanwhile.
    """
    drawn, now = store.rounds.current() is None, time.time()
    return store.tasks.to_fetch(now, FETCH_IMAGES, drawn=drawn) or store.tasks.renewed(now, FETCH_IMAGES)


def is_first_awaited(store: ProjectStore) -> bool:
    """Tell whether a first queue still waits for more images than are there."""
    since = store.row().fetching_since
    return store.rounds.current() is None and (since is None or time.time() - since < PATIENCE_S)


def _banks_to_fill(store: ProjectStore, files: Files, config: ProjectConfig, encoders: Encoders) -> EncoderBanks | None:
    """Return what the configured encoder makes, where all images have it; else the job EMBED sees to it.

    Rows behind a gap would hide it: something is missing where there are fewer rows than images.
    """
    row = store.row()
    if row.features_key is None or row.features_key != features_key(config, row.encoder_side):
        return None
    banks, images = open_banks(store, files, config, encoders), store.tasks.pool_size()
    if banks is None or len(banks.features) < images:
        return None
    complete = banks.activations is not None and len(banks.activations) >= images
    return banks if complete else replace(banks, activations=None)


def _views_to_fill(store: ProjectStore, files: Files, side: int | None) -> ViewBank | None:
    """Return the views where all images have them; else the job EMBED sees to them."""
    if side is None:
        return None
    views = open_views(files, side)
    return views if len(views) >= store.tasks.pool_size() else None


def _bank_to_fill(store: ProjectStore, files: Files) -> ImageBank | None:
    """Return the bank, an empty one before the first image; None while its side is not known.

    Raises:
        Superseded: the bank is lost although images are in it.
    """
    side = store.row().image_side
    if side is None:
        return None
    if store.tasks.pool_size():
        return open_bank(store, files)
    try:
        return ImageBank.open(files.bank(side))
    except BankError:
        set_aside(files.bank(side))
        return ImageBank.create(files.bank(side), side, {})


def _must_restart(store: ProjectStore, studio: StudioProject, files: Files, config: ProjectConfig) -> bool:
    """Measure the pool again where most of it came after the images that decided the sides; note if these are others.

    Returns whether the images have to be fetched anew: what this job fetched would be wasted.
    """
    row = store.row()
    if row.image_side is None or not _is_many_later(store):
        return False
    if row.stale is None and _are_sizes_others(store, studio, files, config):
        store.set(stale=StaleReason.OTHER_SIZES.name)
    return store.row().stale == StaleReason.OTHER_SIZES.name


def _have_other_ranges(store: ProjectStore, ranges: Ranges | None, sample: list[FetchedImage]) -> bool:
    """Tell whether pictures of more than 8 bits would be read by the range of a pool of which nothing is left."""
    counts = store.tasks.counts(time.time())
    replaced = counts.later == counts.tasks or store.tasks.from_row(store.row().measured_rows or 0) == counts.ok > 0
    if ranges is None or not replaced:
        return False
    present = ranges_of(image.depth for image in sample)
    former = [Depth(kind, *ranges[kind]) for kind in present if kind in ranges]
    beyond = widened(ranges, [Depth(kind, *ends) for kind, ends in present.items() if kind in ranges]) != ranges
    return beyond or widened(present, former) != present


def _are_sizes_others(store: ProjectStore, studio: StudioProject, files: Files, config: ProjectConfig) -> bool:
    """Tell whether a sample of the pool asks for other sides, or for other ranges, than the bank has."""
    row = store.row()
    sample = sample_images(studio, store.tasks.drawn(FETCH_IMAGES))
    side, large = _sides_of(sample, config)
    if side not in (None, row.image_side) or (row.encoder_side is not None and large not in (None, row.encoder_side)):
        return True
    return _have_other_ranges(store, bank_ranges(store, files), sample)


def _note_later(store: ProjectStore, studio: StudioProject, files: Files, config: ProjectConfig) -> None:
    """Note, once later images are there, whether the sides fit them, and whether nearly all are other pictures.

    Ids do not tell: Label Studio on SQLite gives those of deleted tasks to others, and people edit tasks. A picture
    that was not in the measured pool has a later row in the bank.
    """
    row, ok = store.row(), store.tasks.counts(time.time()).ok
    if row.stale is not None or row.measured_to is None or row.image_side is None:
        return
    fresh = store.tasks.from_row(row.measured_rows or 0)
    if fresh > MANY_LATER * ok and _are_sizes_others(store, studio, files, config):
        store.set(stale=StaleReason.OTHER_SIZES.name)
    elif fresh > MANY_LATER * ok or _is_many_later(store):
        store.tasks.note_measured(StaleReason.MOSTLY_NEW.name if fresh >= MOSTLY_LATER * ok else None)


def _is_many_later(store: ProjectStore) -> bool:
    counts = store.tasks.counts(time.time())
    return store.row().measured_to is not None and counts.later > MANY_LATER * counts.tasks


def _sides_of(sample: list[FetchedImage], config: ProjectConfig) -> tuple[int | None, int | None]:
    """Return the sides of the bank and of the encoder's images that a sample asks for; None where none can be read."""
    sizes = [image.size for image in sample if image.size is not None]
    largest = RECIPE_INFOS[config.recipe].largest_side
    side = configured_side(config) or (auto_side(sizes, largest) if sizes else None)
    return side, encoder_side(sizes) if sizes else None


def _choose_sides(store: ProjectStore, studio: StudioProject, files: Files, config: ProjectConfig) -> None:
    """Fix the sides of the bank, as configured or as the images of the pool have it, and of the encoder's images.

    What is black and white in pictures of more than 8 bits follows from the same images. Not while none can be read.
    """
    sample = sample_images(studio, store.tasks.to_fetch(time.time(), FETCH_IMAGES, drawn=True))
    side, large = _sides_of(sample, config)
    if side is not None:
        files.drop_banks()  # of a former side, whose images are all fetched again
        files.drop_features()
        files.drop_views()
        ImageBank.create(files.bank(side), side, ranges_of(image.depth for image in sample))
        large = large or SIDES[0]
        key = features_key(config, large)
        store.set(image_side=side, encoder_side=large, features_key=key, fetching_since=time.time())


def _widen_ranges(store: ProjectStore, files: Files, bank: ImageBank, part: list[FetchedImage]) -> bool:
    """Take up what these images have beyond the bank's ranges; tell whether images have to be fetched again for it.

    A range that images in the bank were read by is not changed once a model has begun to learn from them: later images
    are cut off at it, as a camera does. So are those of a bank of an earlier release.
    """
    if bank.ranges is None:
        return False
    in_use = store.row().pretext_images > 0 or store.rounds.current() is not None
    wider = widened(bank.ranges, (image.depth for image in part))
    wider = {kind: bank.ranges[kind] if in_use and kind in bank.ranges else ends for kind, ends in wider.items()}
    if wider == bank.ranges:
        return False
    logger.info("pictures of more than 8 bits are read by %s", wider)
    if all(wider[kind] == ends for kind, ends in bank.ranges.items()):
        bank.note_ranges(wider)
        return True
    # The tasks first: a kill in between must not leave them with the pool indices of a bank that is gone.
    store.tasks.refetch_all()
    files.drop_banks()
    files.drop_features()
    files.drop_views()
    ImageBank.create(files.bank(bank.side), bank.side, wider)
    return True


def _commit(
    store: ProjectStore,
    filled: _Filled,
    part: list[FetchedImage],
    refs: dict[int, str],
) -> None:
    good = [image for image in part if image.pixels is not None]
    if good and filled.bank is not None and filled.free is not None:
        # Images, features and views first, note after: a kill in between leaves rows that no task points to.
        task_ids = [image.task_id for image in good]
        pixels = np.stack([image.pixels for image in good if image.pixels is not None])
        places = place(store, filled.bank, filled.free, task_ids, pixels)
        if filled.banks is not None:
            filled.banks.keep(places, good)
        if filled.views is not None:
            show(filled.views, places, good)
        store.tasks.images_fetched(dict(zip(task_ids, places.tolist(), strict=True)), refs)
    failed = [image for image in part if image.pixels is None]
    if failed:
        attempts = store.tasks.attempts([image.task_id for image in failed])
        failures = {image.task_id: _failure(image, attempts[image.task_id]) for image in failed}
        store.tasks.images_failed(failures, refs)


def show(views: ViewBank, places: IntArray, images: list[FetchedImage]) -> None:
    """Write the views of the images at these pool indices that have none yet, or one of another size."""
    known = views.knows(places)
    for number in np.flatnonzero(known):
        known[number] = tuple(views.sizes(places[[number]])[0].tolist()) == images[number].size
    missing = [number for number in np.flatnonzero(~known) if images[number].view is not None]
    if missing:
        pixels = np.stack([image for number in missing if (image := images[number].view) is not None])
        views.write(places[missing], pixels, np.array([images[number].size for number in missing]))


def _failure(image: FetchedImage, attempts: int) -> Failure:
    """Return when an image is tried again: ever more rarely, for as long as its source may come back."""
    wait = min(FIRST_RETRY_S * 2.0 ** min(attempts, 20), LAST_RETRY_S)
    return Failure(
        image.error or "unknown",
        time.time() + wait if image.transient else None,
        quarantined=not image.transient or attempts + 1 >= TRIES,
    )
