"""A chart as plain values, which a picture file and a page draw alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["line", "points", "bars", "cells"]

# Okabe and Ito 2008: told apart by everybody; grey is left for what is only the background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#6a51a3", "#637939", "#843c39")
GREY = "#c4c4c4"
DARK = "#555555"  # of what is named, but is none of the things compared
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "triangle-up", "square", "diamond")


@dataclass(frozen=True)
class Trace:
    """One line, cloud or row of bars.

    spread: half the height of a band around a line, per point. values: of a trace of cells, one row per ``y``. dash,
    marker: of DASHES and MARKERS, so that curves of one colour are told apart.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float | str]
    colour: str = COLOURS[0]
    spread: Sequence[float] | None = None
    values: Sequence[Sequence[float]] | None = None
    dash: str = DASHES[0]
    marker: str = MARKERS[0]


@dataclass(frozen=True)
class Chart:
    """A chart of traces of one kind.

    name: of its file. note: what a reader has to know, below the title. zero: whether a line at y = 0 helps.
    whole: whether ``x`` counts something, so that there is nothing between its whole numbers.
    """

    name: str
    title: str
    kind: Kind
    x: str
    y: str
    traces: Sequence[Trace]
    note: str = ""
    zero: bool = False
    whole: bool = False


def colour(number: int) -> str:
    """Return the colour of the trace of that number; they repeat after ten."""
    return COLOURS[number % len(COLOURS)]


def dash(number: int) -> str:
    """Return the dashes of the line of that number: others for each time that the colours repeat."""
    return DASHES[number // len(COLOURS) % len(DASHES)]


def marker(number: int) -> str:
    """Return the marker of the line of that number: another one for each time that the colours repeat."""
    return MARKERS[number // len(COLOURS) % len(MARKERS)]
