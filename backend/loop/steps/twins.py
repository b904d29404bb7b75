"""Equal images, which share loss and batch, and images that look nearly alike: people are told how many there are."""

from dataclasses import replace

import numpy as np

from backend.loop.heartbeat import Progress
from backend.loop.steps.bank import open_bank
from backend.loop.steps.features import read_features
from backend.project_files import Files
from backend.status.twins import TwinCounts, note_twins, read_twins
from backend.store import ProjectStore
from backend.store.tasks import PoolView
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.data.twins import first_equals
from model.errors import BankError
from model.learners.scaling import query_features
from model.querying.likeness import Likeness
from model.querying.outputs import BoolArray, FloatArray, IntArray

PAIRS = 200_000_000  # images that are compared with the pool, times its images: some 15 s of one thread


def twins_of(store: ProjectStore, files: Files, in_use: BoolArray) -> IntArray:
    """Return for each image the lowest pool index of an equal one that is in use, (N,).

    A bank of an earlier release, whose images have no digests yet, has no equal images.
    """
    side = store.row().image_side
    try:
        digests = ImageBank.open(files.bank(side or 0)).digests()
    except BankError:
        digests = np.empty(0, np.uint64)
    return first_equals(digests, in_use)


def spread(values: FloatArray, twins: IntArray) -> FloatArray:
    """Return values (N,) in which equal images have the same: that of the first of them which has one, else NaN."""
    of_first = np.full(len(values), np.nan, np.float64)
    known = np.flatnonzero(np.isfinite(values))[::-1]
    of_first[twins[known]] = values[known]  # of several, the last write counts
    return of_first[twins]


def share_with_twins(store: ProjectStore, view: PoolView, twins: IntArray) -> None:
    """Give equal images the same loss and batch, which an earlier release did not."""
    batch = np.where(view.batch >= 0, view.batch, np.nan)
    for known, write in ((view.loss, store.tasks.set_losses), (batch, store.tasks.set_batches)):
        shared = spread(known, twins)
        wrong = np.flatnonzero((view.task_id >= 0) & np.isfinite(shared) & np.isfinite(known) & (shared != known))
        write({int(index): shared[index] for index in wrong})


def count_twins(store: ProjectStore, files: Files, progress: Progress) -> None:
    """Complete the digests of the bank, and note how many images are equal to others, and how many look like others."""
    bank = open_bank(store, files)
    while not bank.add_digests():
        progress(0.0)
    view = store.tasks.pool(len(bank))
    alive = np.flatnonzero(view.task_id >= 0)
    twins = first_equals(bank.digests(), view.task_id >= 0)
    if store.row().pretext_key is not None:
        share_with_twins(store, view, twins)
    kinds = np.bincount(twins[alive], minlength=len(bank))
    counts = TwinCounts(len(alive), len(bank), equal=int((kinds[twins[alive]] > 1).sum()))
    before, features = read_twins(files), read_features(store, files)
    if features is not None:
        key = store.row().features_key
        if before is not None and before.is_compared(len(alive), key):
            compared, alike = before.compared, before.alike
        else:
            compared, alike = len(alive), count_alike(features, alive, twins)
        counts = replace(counts, features=key, compared=compared, alike=alike)
    note_twins(files, counts)


def count_alike(features: FeatureBank, alive: IntArray, twins: IntArray) -> int:
    """Return how many of the images ``alive`` look nearly like another one that does not equal them.

    All of a small pool are compared with all, of a large one a drawn part.
    """
    known = alive[features.knows(alive)]
    if not len(known):
        return 0
    generator = np.random.default_rng(0)
    sample = np.sort(generator.permutation(known)[: max(PAIRS // len(known), 1)])
    x, y = Likeness(query_features(features, len(twins)), known, generator).pairs(sample, known)
    alike = np.unique(x[twins[sample[x]] != twins[known[y]]])
    return round(len(alike) / len(sample) * len(known))
