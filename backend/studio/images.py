"""Downloading and decoding the images of many tasks at once; a bad one is reported, never raised."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from backend.errors import ImageError, ImageUnavailable
from backend.studio.client import LabelStudio
from model.errors import BadImage
from model.images import decode, measure

WORKERS = 8
AHEAD = 4
"""Downloads in flight or waiting to be taken, for each worker: what bounds memory."""


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
    client: LabelStudio, refs: Iterable[tuple[int, str]], side: int, *, workers: int = WORKERS
) -> Iterator[FetchedImage]:
    """Yield every image of `refs` (task id, reference), scaled to `side`, in their order.

    At most `workers * AHEAD` images are in memory.

    Raises:
        StudioUnreachable, StudioRefused: Label Studio as a whole fails: no image is to blame.
    """
    rest = iter(refs)
    waiting: deque[Future[FetchedImage]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        try:
            for task_id, reference in islice(rest, workers * AHEAD):
                waiting.append(pool.submit(_one, client, task_id, reference, side))
            while waiting:
                done = waiting.popleft().result()
                for task_id, reference in islice(rest, 1):
                    waiting.append(pool.submit(_one, client, task_id, reference, side))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one(client: LabelStudio, task_id: int, reference: str, side: int) -> FetchedImage:
    try:
        body = client.fetch(reference, task_id)
        return FetchedImage(task_id, pixels=decode(body, side), size=measure(body))
    except ImageUnavailable as error:
        return FetchedImage(task_id, error=str(error), transient=True)
    except (ImageError, BadImage) as error:
        return FetchedImage(task_id, error=str(error))
