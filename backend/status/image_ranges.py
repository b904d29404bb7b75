"""What people are told of pictures of more than 8 bits."""

from model.data.ranges import COLOUR, FLOAT, INTEGER, Ranges

_NAMES = {INTEGER: "pictures of 16 or 32 bits", FLOAT: "pictures of decimal numbers", COLOUR: "16-bit colours"}
_UPPER = 256  # values of 16 bits for each of the upper 8, which is all that is read of colours


def ranges_text(ranges: Ranges) -> str | None:
    """Return a sentence on what is black and what is white in them; None where there are no such pictures."""
    parts = [
        f"{_number(kind, low)} to {_number(kind, high, 1)} in {_NAMES[kind]}" for kind, (low, high) in _known(ranges)
    ]
    if not parts:
        return None
    rest = " Of 16-bit colours only the upper 8 bits are read." if COLOUR in ranges else ""
    return f"The model sees black to white as {' and '.join(parts)}: the range that this project's pictures have.{rest}"


def _known(ranges: Ranges) -> list[tuple[str, tuple[float, float]]]:
    return [(kind, ranges[kind]) for kind in _NAMES if kind in ranges]


def _number(kind: str, value: float, end: int = 0) -> str:
    """Return a value as people know it; end: 1 for the last of the values that share an upper byte."""
    value = (value + end) * _UPPER - end if kind == COLOUR else value
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"
