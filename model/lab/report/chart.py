"""A chart as plain values, which ``picture`` draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["line", "points", "bars", "cells"]

# Okabe and Ito 2008: colours that colour-blind readers can tell apart. Grey is for the background only.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#6a51a3", "#637939", "#843c39")
GREY = "#c4c4c4"
DARK = "#555555"  # of a trace that is none of those compared
DASHES = ("-", "--", ":", "-.")  # matplotlib's line styles
MARKERS = ("o", "^", "s", "D")  # matplotlib's markers


@dataclass(frozen=True)
class Trace:
    """One line, one cloud of points, or one row of bars.

    spread: half the height of a band around a line, for each point. values: of a trace of cells, a row for each ``y``.
    dash, marker: of DASHES and MARKERS, to tell curves of the same colour apart.
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

    name: of its file. note: what a reader has to know, below the axes. zero: draw a line at y = 0. whole: ``x`` counts
    something, so that ticks stand at whole numbers only.
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
    """Return the colour of a trace; they repeat after ten."""
    return COLOURS[number % len(COLOURS)]


def dash(number: int) -> str:
    """Return the line style of a trace: another one each time that the colours repeat."""
    return DASHES[number // len(COLOURS) % len(DASHES)]


def marker(number: int) -> str:
    """Return the marker of a trace: another one each time that the colours repeat."""
    return MARKERS[number // len(COLOURS) % len(MARKERS)]
