"""The ranges of pictures of more than 8 bits: which values become black and white.

A camera of 12 bits stores its values in files of 16, and a detector in any unit, so that a file does not tell which
value is white. The range is therefore that of the whole pool: one of each picture by itself would hide what is brighter
than what. Pictures are of three kinds, each with a range of its own: ``integer`` (one channel of 16 or 32 bits),
``float``, and ``colour`` (several channels of 16 bits, of which Pillow gives the upper 8).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Ranges = Mapping[str, tuple[float, float]]  # what becomes black and white, by kind

INTEGER, FLOAT, COLOUR = "integer", "float", "colour"
MARGIN = 0.1  # of a range: pictures that go further beyond it widen it


@dataclass(frozen=True, slots=True)
class Depth:
    """The kind of a picture of more than 8 bits, and the lowest and highest of its values."""

    kind: str
    low: float
    high: float


def widened(ranges: Ranges, depths: Iterable[Depth | None]) -> dict[str, tuple[float, float]]:
    """Return ranges that hold these pictures too; equal ones where none goes far beyond its range."""
    wider = dict(ranges)
    for depth in depths:
        if depth is None:
            continue
        low, high = wider.get(depth.kind, (depth.low, depth.high))
        margin = MARGIN * (high - low)
        if depth.kind not in wider or depth.low < low - margin or depth.high > high + margin:
            wider[depth.kind] = (min(low, depth.low), max(high, depth.high))
    return wider


def ranges_of(depths: Iterable[Depth | None]) -> dict[str, tuple[float, float]]:
    """Return the range of each kind among these pictures."""
    found: dict[str, tuple[float, float]] = {}
    for depth in depths:
        if depth is not None:
            low, high = found.get(depth.kind, (depth.low, depth.high))
            found[depth.kind] = (min(low, depth.low), max(high, depth.high))
    return found
