"""Which row of the bank a fetched image gets: that of the same picture, if there is one that is free."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backend.store import ProjectStore
from model.data.bank import ImageBank, digests_of
from model.querying.outputs import IntArray

ROUNDING = 2  # levels of 255 by which the same picture may differ: of another decoder, or a conversion without loss

Pixels = NDArray[np.uint8]


class FreePlaces:
    """The places in the bank of pictures that no task has any more: looked up once, when the first is wanted.

    To look them up takes a second for a million images. What becomes free later is found by the next ones.
    """

    def __init__(self, store: ProjectStore, bank: ImageBank) -> None:
        self._store, self._bank = store, bank
        self._places: dict[int, list[int]] | None = None

    def take(self, pixels: Pixels) -> IntArray:
        """Return a free place for each picture, (n, side, side, 3) -> (n,), or -1; none is given twice."""
        if self._places is None:
            self._places = _free(self._store, self._bank)
        taken = np.full(len(pixels), -1, np.int64)
        if self._places:
            for number, digest in enumerate(digests_of(pixels).tolist()):
                if found := self._places.get(digest):
                    taken[number] = found.pop()
        return taken


def place(store: ProjectStore, bank: ImageBank, free: FreePlaces, task_ids: Sequence[int], pixels: Pixels) -> IntArray:
    """Return the pool index (n,) of these tasks' images, (n, side, side, 3); what is not in the bank yet is appended.

    The same pixels are the same picture, whatever its address is: a task keeps its place if its picture is there, and
    with it features, loss, batch and predictions. So a pool whose addresses are renewed every night does not grow. A
    picture that nobody has any more, as when its task was deleted and imported again, gives its place to an equal one.
    """
    places = np.full(len(task_ids), -1, np.int64)
    own = store.tasks.pool_indices(task_ids)
    known = np.array([number for number, task in enumerate(task_ids) if own.get(task, len(bank)) < len(bank)], np.int64)
    if len(known):
        before = np.array([own[task_ids[number]] for number in known], np.int64)
        apart = np.abs(bank.gather(before).astype(np.int16) - pixels[known])
        same = apart.max(axis=(1, 2, 3)) <= ROUNDING
        places[known[same]] = before[same]
    missing = np.flatnonzero(places < 0)
    if len(missing):
        places[missing] = free.take(pixels[missing])
    new = np.flatnonzero(places < 0)
    if len(new):
        places[new] = bank.append(pixels[new]) + np.arange(len(new))
    return places


def _free(store: ProjectStore, bank: ImageBank) -> dict[int, list[int]]:
    """Return the pool indices of the pictures that no task has, by digest."""
    digests = bank.digests()
    used = store.tasks.in_use(len(digests))
    free = defaultdict[int, list[int]](list)
    if used is not None:
        for index in np.flatnonzero(~used)[::-1].tolist():
            free[int(digests[index])].append(index)
    return free
