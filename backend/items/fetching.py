"""Downloading and decoding the images of many tasks at once; a bad one is reported, never raised."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from backend.errors import ImageError, ImageUnavailable
from backend.studio.project import StudioProject
from model.data.decoding import decode, measure
from model.errors import BadImage

WORKERS = 8
AHEAD = 4
"""Downloads in flight or waiting to be taken, for each worker: what bounds memory."""
PIXELS_AT_ONCE = 32_000_000
"""That are being decoded at any time, of one image or of several: what a decoder needs goes by them, from 4 bytes each
(JPEG, PNG) to 20 (JPEG 2000). An image that has more is decoded alone."""


class PixelBudget:
    """Lets threads decode images side by side as long as these have few pixels together."""

    def __init__(self, total: int) -> None:
        self._total, self._taken = total, 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until so many are free, or nobody has any."""
        # In turn, so that small images do not overtake a large one for ever.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._total)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


_budget = PixelBudget(PIXELS_AT_ONCE)


@dataclass(frozen=True, slots=True, eq=False)
class FetchedImage:
    """An image as it goes into the bank, or why it does not."""

    task_id: int
    pixels: NDArray[np.uint8] | None = None
    size: tuple[int, int] | None = None
    """(width, height) as it came."""
    error: str | None = None
    transient: bool = False
    """The error may pass: worth another try later."""


def download_images(
    project: StudioProject, refs: Iterable[tuple[int, str]], side: int, *, workers: int = WORKERS
) -> Iterator[FetchedImage]:
    """Yield every image of `refs` (task id, reference), scaled to `side`, in their order.

    At most `workers * AHEAD` images are in memory.

    Raises:
        StudioUnreachable, StudioRefused: Label Studio as a whole fails: no image is to blame.
    """
    window = _Window(project, side, workers)
    rest = iter(refs)
    try:
        for task_id, reference in islice(rest, workers * AHEAD):
            window.ask(task_id, reference)
        while window.waiting:
            done = window.take()
            for task_id, reference in islice(rest, 1):
                window.ask(task_id, reference)
            yield done
    finally:
        window.close()


class _Window:
    """Downloads in flight, in order; tasks that name the same file share one while it is in the window."""

    def __init__(self, project: StudioProject, side: int, workers: int) -> None:
        self.waiting: deque[tuple[int, str]] = deque()
        self._project, self._side = project, side
        self._shared: dict[str, Future[FetchedImage]] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")

    def ask(self, task_id: int, reference: str) -> None:
        if reference not in self._shared:
            self._shared[reference] = self._pool.submit(_one, self._project, task_id, reference, self._side)
        self.waiting.append((task_id, reference))

    def take(self) -> FetchedImage:
        task_id, reference = self.waiting.popleft()
        done = self._shared[reference].result()
        if all(other != reference for _, other in self.waiting):
            del self._shared[reference]
        return replace(done, task_id=task_id)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _one(project: StudioProject, task_id: int, reference: str, side: int) -> FetchedImage:
    try:
        body = project.fetch(reference, task_id)
        size = measure(body)
        with _budget.of(size[0] * size[1]):
            return FetchedImage(task_id, pixels=decode(body, side), size=size)
    except ImageUnavailable as error:
        return FetchedImage(task_id, error=str(error), transient=True)
    except (ImageError, BadImage) as error:
        return FetchedImage(task_id, error=str(error))
