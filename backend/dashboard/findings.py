"""What the numbers mean, said so that the one who pays for labels can act on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backend.dashboard.figures.balance import target_classes
from backend.dashboard.project_page import ProjectView
from backend.dashboard.text import count, few, percent, points
from backend.status.forecast_text import query_verdict
from backend.status.query_error_rate import ErrorRateDifference, Rate, error_rate_difference
from backend.status.status import Status
from backend.store import Answer
from backend.store.dashboard_queries import AskedTarget

WIDE = 0.15  # width of an accuracy's interval above which it says little
AGREE = 0.9  # kappa above which successive models say nearly the same

LEFT_OUT = {
    Answer.SKIPPED: "skipped",
    Answer.TIE: "with a tie between annotators",
    Answer.UNUSABLE: "with an answer that the labeling interface does not have",
}

Tone = Literal["good", "plain", "warning"]


@dataclass(frozen=True)
class Finding:
    """A sentence on what the numbers mean."""

    tone: Tone
    text: str


def findings(view: ProjectView) -> list[Finding]:
    """Give the findings of a project, the most important first."""
    history, status = view.data["history"], view.status
    found = [
        *_one_class(view.asked, status.tasks.labeled),
        *_forecast(status),
        *_accuracy(history, status.tasks.labeled, status.config.holdout_fraction, _missing(status)),
        *_error_rates(error_rate_difference(view.asked_in_full), bool(history)),
    ]
    found += _agreement(history)
    found += _left_out(view.here.store.of(view.project.id).dashboard.answers())
    return found


def _one_class(asked: Iterable[AskedTarget], labeled: int) -> Iterable[Finding]:
    rows = list(asked)
    names = {target_classes(row.target) for row in rows}
    # Labels that nobody asked for are not among these: they may be of another class.
    if len(names) == 1 and sum(row.images for row in rows) == labeled > 1:
        text = "', '".join(names.pop())
        yield Finding("warning", f"All labels are '{text}': nothing to tell apart yet.")


def _forecast(status: Status) -> Iterable[Finding]:
    forecast, coming = status.forecast, status.coming
    if forecast is None or coming is None:
        return
    errors = round(forecast.gain * status.tasks.available)
    meaning = f" On the {status.tasks.available:,} images without a label that is about {count(errors, 'error')} fewer."
    tone: Tone = "good" if forecast.advice == "stop" else "plain"
    yield Finding(tone, coming + (meaning if errors > 0 else ""))


def _accuracy(history: list[dict[str, Any]], labeled: int, holdout_fraction: float, missing: str) -> Iterable[Finding]:
    measured = [entry for entry in history if entry["holdout_size"]]
    if not measured:
        if history:
            why = " Set holdout_fraction above 0." if holdout_fraction == 0 else ""
            yield Finding("warning", f"No random image is labeled yet, so nobody knows how good the model is.{why}")
        return
    entry = measured[-1]
    low, high = entry["interval"]
    images, labels = count(entry["holdout_size"], "random image"), count(entry["labels"], "label")
    if labeled > entry["labels"]:  # the others are random images, or came since
        labels = f"{entry['labels']:,} of the {labeled:,} labels"
    unseen = "that it has not learned from"
    counted = entry["holdout_correct"] is not None  # one class an image: right or wrong
    good = "is right on {} of" if counted else "has a mean quality of {} on"
    if few(entry["holdout_size"]):
        good = good.format(f"{entry['holdout_correct']:,}" if counted else percent(entry["quality"]))
        yield Finding(
            "warning",
            f"Trained on {labels}, the model {good} {images} {unseen}: too few to say how good it is.{missing}",
        )
        return
    yield Finding(
        "plain",
        f"Trained on {labels}, the model {good.format(percent(entry['quality']))} {images} {unseen}. "
        f"For the images without a label that means about {percent(low)} to {percent(high)} (95% interval).",
    )
    if high - low > WIDE:
        noise = f"{images} say little: differences below {100 * (high - low) / 2:.0f} points are noise."
        yield Finding("warning", noise + (missing or " Each round adds some."))


def _missing(status: Status) -> str:
    """Say what an advice still needs, with a space before it; nothing if the forecast has said so."""
    missing = status.next_round.missing
    said = status.forecast is not None and status.forecast.advice == "unknown"
    return f" {missing}." if missing and not said and not status.done else ""


def _error_rates(found: ErrorRateDifference | None, has_model: bool) -> Iterable[Finding]:
    if found is None:
        if has_model:
            yield Finding(
                "plain",
                "Whether asked images are harder than random ones shows when the first round that a model chose is "
                "answered.",
            )
        return
    numbers = (
        f"when it asked, the model was wrong on {_rate(found.asked, 'image')} that it chose and on "
        f"{_rate(found.random, 'random one')}, a difference of {points(found.difference)} points "
        f"({points(found.interval[0])} to {points(found.interval[1])})."
    )
    said = query_verdict(found)
    if said == "harder":
        yield Finding("good", f"Asked images are harder than random ones: {numbers} Choosing pays.")
    elif said == "worse":
        yield Finding("warning", f"The queue is worse than a random one: {numbers} Random images would teach more.")
    elif said == "no better":
        yield Finding("warning", f"The queue is no better than a random one, as far as one can tell: {numbers}")
    else:
        yield Finding("plain", f"Too early to tell whether asked images are harder than random ones: {numbers}")


def _agreement(history: list[dict[str, Any]]) -> Iterable[Finding]:
    known = [entry["agreement"] for entry in history if entry["agreement"] is not None]
    if not known:
        return
    before = f", {known[-2]:.2f} a round earlier" if len(known) > 1 else ""
    meaning = (
        "more labels change its predictions little" if known[-1] >= AGREE else "labels still change its predictions"
    )
    yield Finding(
        "plain",
        f"The last two models agree on unlabeled images by {known[-1]:.2f}{before}, where 1 is always and 0 is no more "
        f"than by chance: {meaning}.",
    )


def _left_out(answers: Mapping[Answer, int]) -> Iterable[Finding]:
    parts = [f"{answers[kind]:,} {words}" for kind, words in LEFT_OUT.items() if answers.get(kind)]
    if parts:
        yield Finding("plain", f"Answered but not trained on: {', '.join(parts)}.")


def _rate(rate: Rate, noun: str) -> str:
    return f"{percent(rate.share)} of {count(rate.images, noun)}"
