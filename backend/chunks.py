"""Long lists in pieces."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Cut ``items`` into lists of at most ``size``."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def weighed_chunks(items: Iterable[T], size: int, most: int, weigh: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Cut ``items`` into lists of at most ``size`` whose weights add up to ``most`` at most, or of one item."""
    part: list[T] = []
    total = 0
    for item in items:
        weight = weigh(item)
        if part and (len(part) >= size or total + weight > most):
            yield part
            part, total = [], 0
        part.append(item)
        total += weight
    if part:
        yield part
