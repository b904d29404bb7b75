"""When the learners of a project are compared, and what came out. It loads no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.learners.registry import LINEAR, OWN
from model.training.registry import TINY

FEWEST = 24  # labels below which the difference of two learners is chance
GROWTH = 1.5  # after so many times the labels of the last trial, the next one


@dataclass(frozen=True)
class Choice:
    """The learner that was chosen. labels: at the last trial. quality: of each learner out of fold, 0 to 1."""

    learner: str = LINEAR
    labels: int = 0
    quality: Mapping[str, float] = field(default_factory=dict)


def is_due(known: Choice | None, labels: int) -> bool:
    """Tell whether the learners are to be compared (again) with so many labels. known: the last choice."""
    return labels >= FEWEST and (known is None or labels >= GROWTH * known.labels)


def before_labels_tell(side: int) -> Choice:
    """Return what is chosen while there are too few labels to compare, and later unless another one is clearly ahead.

    side: of the image bank, in pixels. Tiny pictures are unlike what the encoder has learned (docs/method.md, digits).
    """
    return Choice(OWN if side <= TINY else LINEAR)


def is_wanted(known: Choice | None, labels: int, side: int) -> bool:
    """Tell whether there is anything to do beside the linear head: a comparison, or a learner that was chosen."""
    return is_due(known, labels) or (known or before_labels_tell(side)).learner != LINEAR


def choice_of(path: Path) -> Choice | None:
    """Read a choice that was kept as JSON; None where there is none."""
    try:
        return Choice(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
