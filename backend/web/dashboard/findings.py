"""What the numbers mean, said so that the one who pays for labels can act on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backend.loop.advice import verdict, what_comes
from backend.loop.evidence import Hardness, Rate, hardness
from backend.loop.status import Status
from backend.store import Answer
from backend.web.dashboard.view import ProjectView
from backend.web.dashboard.words import count, percent, points

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
    history = view.data["history"]
    found = [
        *_outlook(view.status),
        *_accuracy(history, view.status.config.holdout_fraction),
        *_hardness(hardness(view.asked_in_full), bool(history)),
    ]
    found += _agreement(history)
    found += _left_out(view.here.store.insight.answers(view.project.id))
    return found


def _outlook(status: Status) -> Iterable[Finding]:
    coming = status.outlook
    if coming is None or status.finished:
        return
    errors = round(coming.gain * status.tasks.available)
    meaning = f" On the {status.tasks.available:,} images without a label that is about {count(errors, 'error')} fewer."
    tone: Tone = "good" if coming.advice == "stop" else "plain"
    yield Finding(tone, what_comes(coming) + (meaning if errors > 0 else ""))


def _accuracy(history: list[dict[str, Any]], holdout_fraction: float) -> Iterable[Finding]:
    measured = [entry for entry in history if entry["holdout_size"]]
    if not measured:
        if history:
            why = " Set holdout_fraction above 0." if holdout_fraction == 0 else ""
            yield Finding("warning", f"No random image is labeled yet, so nobody knows how good the model is.{why}")
        return
    entry = measured[-1]
    low, high = entry["interval"]
    images = count(entry["holdout_size"], "random image")
    yield Finding(
        "plain",
        f"With {count(entry['labels'], 'label')} the model is right on {percent(entry['holdout_accuracy'])} of "
        f"{images} that it was never trained on. For the images without a label that means about {percent(low)} to "
        f"{percent(high)} (95% interval), rather more than less: each round draws its random images from what it does "
        "not ask for, and the early ones still contain images of the kind that later rounds asked for.",
    )
    if high - low > WIDE:
        yield Finding(
            "warning",
            f"{images} measure little: differences below {100 * (high - low) / 2:.0f} points are noise. "
            "Each round adds some.",
        )


def _hardness(found: Hardness | None, has_model: bool) -> Iterable[Finding]:
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
    said = verdict(found)
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
        "plain", f"The last two models agree on unlabeled images with a kappa of {known[-1]:.2f}{before}: {meaning}."
    )


def _left_out(answers: Mapping[Answer, int]) -> Iterable[Finding]:
    parts = [f"{answers[kind]:,} {words}" for kind, words in LEFT_OUT.items() if answers.get(kind)]
    if parts:
        yield Finding("plain", f"Answered but not trained on: {', '.join(parts)}.")


def _rate(rate: Rate, noun: str) -> str:
    return f"{percent(rate.share)} of {count(rate.images, noun)}"
