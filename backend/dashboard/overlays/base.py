"""What lies over an image: boxes, a mask, and words. Places are pixels of the picture on the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from model.data.masks import Pixels
from model.problems.base import Prediction, Target

# A box that is only shown; of two answers, what both have, what the model has missed, what the model alone has.
BoxKind = Literal["plain", "hit", "miss", "alarm"]

Size = tuple[int, int]  # width and height, pixels


@dataclass(frozen=True)
class Box:
    """A rectangle. title: what stands there when it is pointed at."""

    kind: BoxKind
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Word:
    """A text that begins, or has its middle, at a place."""

    x: float
    y: float
    text: str
    middle: bool = False


@dataclass(frozen=True)
class Layer:
    """What lies over one picture. mask: digest of the mask, whose picture has an address of its own."""

    boxes: tuple[Box, ...] = ()
    words: tuple[Word, ...] = ()
    mask: str | None = None


@dataclass(frozen=True)
class Sides:
    """A target beside its prediction, and what tells them apart, in words."""

    annotators: Layer
    model: Layer
    summary: str


class Overlay(Protocol):
    """How targets and predictions of one form are drawn. kinds: of boxes, explained on the page."""

    @property
    def kinds(self) -> tuple[BoxKind, ...]:
        """The kinds of boxes that ``sides`` draws."""

    def layer(self, prediction: Prediction, size: Size) -> Layer:
        """Return what lies over a small picture of this size."""

    def sides(self, prediction: Prediction, target: Target, size: Size) -> Sides:
        """Return a target beside its prediction, over pictures of this size."""

    def mask(self, value: Target, size: Size, classes: Sequence[str]) -> Pixels | None:
        """Return class ids of each pixel (height, width), 1 for the first of ``classes``; None where it has no mask."""

    def colours(self, classes: Sequence[str]) -> list[tuple[str, str]]:
        """Return each class with its colour; nothing where classes are not told apart by colour."""
