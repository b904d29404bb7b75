"""What the annotations of a task say together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from backend.labeling.base import Labeling, Refusal
from backend.labeling.regions import beside
from backend.studio.types import AnnotationRecord
from model.problems.base import Problem, Target

SummaryKind = Literal["none", "labeled", "skipped", "tie", "unusable", "model"]
# Of several annotations that cannot be learned, the first of these tells most about what to do.
_TELLING: tuple[Refusal, ...] = ("unknown", "several", "huge", "unusable", "other", "empty")


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """The agreed answer of a task, or why there is none.

    kind: ``none``: no annotation. ``skipped``: all were skipped. ``unusable``: none can be learned. ``tie``: the
    annotators do not agree. ``model``: all were made from predictions. ``labeled``: ``target`` is what they agree on.
    left_out: things that some of them marked and that are not in it.
    """

    kind: SummaryKind
    target: Target | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class AnnotationDetails:
    """What is known of a task's annotations beside what they say.

    refusal: why none of them can be learned; None where one can. accepted: a person took a prediction over as it was.
    orphaned: nothing tells whether persons or predictions made them: Label Studio forgets that with the predictions.
    """

    refusal: Refusal | None
    accepted: bool
    orphaned: bool


def summarize(annotations: Iterable[AnnotationRecord], labeling: Labeling, problem: Problem) -> AnnotationSummary:
    """Return what a task's annotations say together.

    Those that were skipped do not count, nor do those that were made from predictions: they are no person's answer.
    """
    saved = list(annotations)
    given = [annotation for annotation in saved if not annotation.skipped]
    if not given:
        return AnnotationSummary("skipped" if saved else "none")
    if all(annotation.by_model for annotation in given):
        return AnnotationSummary("model")
    targets = targets_of(given, labeling)
    if not targets:
        return AnnotationSummary("unusable")
    merged = problem.merge(targets)
    if merged is None:
        return AnnotationSummary("tie")
    return AnnotationSummary("labeled", merged, problem.left_out(targets))


def targets_of(annotations: Iterable[AnnotationRecord], labeling: Labeling) -> list[Target]:
    """Return the targets of those annotations that persons gave, did not skip, and that can be learned."""
    targets = (labeling.target(annotation.result) for annotation in _of_persons(annotations))
    return [target for target in targets if target is not None]


def details_of(annotations: Iterable[AnnotationRecord], labeling: Labeling) -> AnnotationDetails:
    """Return what is known of a task's annotations beside what they say."""
    given = [annotation for annotation in annotations if not annotation.skipped]
    refusals, accepted = set[Refusal | None](), False
    for annotation in _of_persons(given):
        learned = labeling.target(annotation.result) is not None
        refusals.add(None if learned else labeling.refusal(annotation.result))
        accepted = accepted or (learned and _is_as_predicted(annotation, labeling))
    usable = None in refusals
    return AnnotationDetails(
        refusal=None if usable else next((refusal for refusal in _TELLING if refusal in refusals), None),
        accepted=accepted,
        orphaned=bool(given) and not any(annotation.by_model or annotation.timed for annotation in given),
    )


def _of_persons(annotations: Iterable[AnnotationRecord]) -> list[AnnotationRecord]:
    return [annotation for annotation in annotations if not (annotation.skipped or annotation.by_model)]


def _is_as_predicted(annotation: AnnotationRecord, labeling: Labeling) -> bool:
    """Tell whether a person left a prediction as it was: Label Studio notes where each region comes from."""
    regions = [region for region in annotation.result if isinstance(region, Mapping)]
    read = labeling.control, *beside(labeling)
    return {region.get("origin") for region in regions if region.get("from_name") in read} == {"prediction"}
