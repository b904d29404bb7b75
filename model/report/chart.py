"""A chart as plain values, which a picture file and a page draw alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["line", "points", "bars", "cells"]

# Okabe and Ito 2008: told apart by everybody; grey is left for what is only the background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#6a51a3", "#637939", "#843c39")
GREY = "#c4c4c4"


@dataclass(frozen=True)
class Trace:
    """One line, cloud or row of bars.

    spread: half the height of a band around a line, per point. values: of a trace of cells, one row per ``y``.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float | str]
    colour: str = COLOURS[0]
    spread: Sequence[float] | None = None
    values: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of traces of one kind.

    name: of its file. note: what a reader has to know, below the title. zero: whether a line at y = 0 helps.
    """

    name: str
    title: str
    kind: Kind
    x: str
    y: str
    traces: Sequence[Trace]
    note: str = ""
    zero: bool = False


def colour(number: int) -> str:
    """Return the colour of the trace of that number; they repeat after ten."""
    return COLOURS[number % len(COLOURS)]
