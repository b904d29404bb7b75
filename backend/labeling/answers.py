"""What the annotations of a task say together."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from backend.labeling.base import Labeling
from backend.studio.types import AnnotationRecord
from model.problems.base import Problem, Target

SummaryKind = Literal["none", "labeled", "skipped", "tie", "unusable"]


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """The agreed answer of a task, or why there is none.

    kind: ``none``: no annotation. ``skipped``: all were skipped. ``unusable``: none can be learned. ``tie``: the
    annotators do not agree. ``labeled``: ``target`` is what they agree on.
    """

    kind: SummaryKind
    target: Target | None = None


def summarize(annotations: Iterable[AnnotationRecord], labeling: Labeling, problem: Problem) -> AnnotationSummary:
    """Return what a task's annotations say together; those that were skipped do not count."""
    saved = list(annotations)
    given = [annotation for annotation in saved if not annotation.skipped]
    if not given:
        return AnnotationSummary("skipped" if saved else "none")
    targets = targets_of(given, labeling)
    if not targets:
        return AnnotationSummary("unusable")
    merged = problem.merge(targets)
    return AnnotationSummary("tie") if merged is None else AnnotationSummary("labeled", merged)


def targets_of(annotations: Iterable[AnnotationRecord], labeling: Labeling) -> list[Target]:
    """Return the targets of those annotations that were not skipped and can be learned."""
    targets = (labeling.target(annotation.result) for annotation in annotations if not annotation.skipped)
    return [target for target in targets if target is not None]
