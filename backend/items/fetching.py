"""Download and decode the images of many tasks at once; an image that cannot be used is reported, never raised."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from backend.errors import ImageError, ImageUnavailable
from backend.studio.project import StudioProject
from model.data.decoding import Sides, decode_with_depth, measure
from model.data.ranges import Depth, Ranges
from model.errors import BadImage

WORKERS = 8
SAMPLE_IMAGES, SAMPLE_SIDE = 32, 32  # images whose sizes are measured, and the side they are scaled to (pixels)
AHEAD = 4  # downloads in flight or waiting to be taken, for each worker: this bounds memory
# Pixels that are being decoded at any time, of one image or of several. A decoder needs from 4 bytes (JPEG, PNG) to 20
# (JPEG 2000) for each. An image that has more is decoded alone.
PIXELS_AT_ONCE = 32_000_000


class PixelBudget:
    """Bounds the number of pixels that threads decode at the same time."""

    def __init__(self, total: int) -> None:
        self._total, self._taken = total, 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Hold ``pixels`` of the budget; wait until as many are free, or none is held."""
        # First come, first served: otherwise small images would overtake a large one for ever.
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
    """An image as it goes into the bank, or the reason why it does not.

    pixels: at the side of the bank. large: at the side of the encoder, view: letterboxed, where they are wanted.
    features, activations: in place of large, where somebody has embedded it already. size: (width, height) as a browser
    shows it. depth: the range of its values, where they have more than 8 bits. transient:
    the error may pass, so that another try later is worth it.
    """

    task_id: int
    pixels: NDArray[np.uint8] | None = None
    large: NDArray[np.uint8] | None = None
    view: NDArray[np.uint8] | None = None
    features: NDArray[np.floating] | None = None
    activations: NDArray[np.floating] | None = None
    size: tuple[int, int] | None = None
    depth: Depth | None = None
    error: str | None = None
    transient: bool = False


def download_images(
    project: StudioProject,
    refs: Iterable[tuple[int, str]],
    sides: Sides | int,
    *,
    ranges: Ranges | None = None,
    workers: int = WORKERS,
) -> Iterator[FetchedImage]:
    """Yield every image of ``refs`` (task id, reference), scaled to ``sides``, in their order.

    sides: an int is that of the bank alone. ranges: what becomes black and white in images of more than 8 bits. At most
    ``workers * AHEAD`` images are in memory.

    Raises:
        StudioUnreachable, StudioRefused: Label Studio as a whole fails, not a single image.
    """
    window = _Window(project, Sides(sides) if isinstance(sides, int) else sides, ranges, workers)
    remaining = iter(refs)
    try:
        for task_id, reference in islice(remaining, workers * AHEAD):
            window.ask(task_id, reference)
        while window.waiting:
            image = window.take()
            for task_id, reference in islice(remaining, 1):
                window.ask(task_id, reference)
            yield image
    finally:
        window.close()


def sample_images(project: StudioProject, refs: Sequence[tuple[int, str]]) -> list[FetchedImage]:
    """Return SAMPLE_IMAGES that can be used, scaled to SAMPLE_SIDE; none where none can."""
    # Spread over the pool: uploads often come sorted by source, and sources differ in size.
    step = max(len(refs) // SAMPLE_IMAGES, 1)
    spread = [ref for offset in range(step) for ref in refs[offset::step]]
    usable = (image for image in download_images(project, spread, SAMPLE_SIDE) if image.size is not None)
    return list(islice(usable, SAMPLE_IMAGES))


class _Window:
    """Downloads in flight, in order; tasks with the same reference share one while it is in the window."""

    def __init__(self, project: StudioProject, sides: Sides, ranges: Ranges | None, workers: int) -> None:
        self.waiting: deque[tuple[int, str]] = deque()
        self._project, self._sides, self._ranges = project, sides, ranges
        self._shared: dict[str, Future[FetchedImage]] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")

    def ask(self, task_id: int, reference: str) -> None:
        if reference not in self._shared:
            given = (self._project, task_id, reference, self._sides, self._ranges)
            self._shared[reference] = self._pool.submit(_fetch, *given)
        self.waiting.append((task_id, reference))

    def take(self) -> FetchedImage:
        task_id, reference = self.waiting.popleft()
        image = self._shared[reference].result()
        if all(other != reference for _, other in self.waiting):
            del self._shared[reference]
        return replace(image, task_id=task_id)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _fetch(project: StudioProject, task_id: int, reference: str, sides: Sides, ranges: Ranges | None) -> FetchedImage:
    try:
        body = project.fetch(reference, task_id)
        size = measure(body)
        with _budget.of(size[0] * size[1]):
            image = decode_with_depth(body, sides, ranges)
        return FetchedImage(task_id, image.pixels, image.large, image.view, size=size, depth=image.depth)
    except ImageUnavailable as error:
        return FetchedImage(task_id, error=str(error), transient=True)
    except (ImageError, BadImage) as error:
        return FetchedImage(task_id, error=str(error))
