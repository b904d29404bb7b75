"""What the numbers mean, in sentences that a project lead can act on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from backend.dashboard.figures import FIGURES
from backend.dashboard.project_page import Entry, ProjectPage
from backend.dashboard.text import count, percent
from backend.status.forecast_text import query_verdict
from backend.status.left_out import left_out
from backend.status.measured import Metric
from backend.status.pretext_training import training_text
from backend.status.query_error_rate import ErrorRateDifference, error_rate_difference
from backend.status.status import Status
from backend.status.twins import twins_text
from backend.store.task_answers import Reason

WIDE = 0.15  # width of the interval of a mean quality above which it says little
AGREE = 0.9  # kappa above which successive models say nearly the same

Tone = Literal["good", "plain", "warning"]


@dataclass(frozen=True)
class Finding:
    """A sentence on what the numbers mean."""

    tone: Tone
    text: str


def findings(page: ProjectPage) -> list[Finding]:
    """Return the findings of a project, the most important first."""
    status, config = page.status, page.status.config
    qualities = [entry for entry in page.history if entry.quality.size]
    answers = page.services.store.of(page.project.id).dashboard.answers()
    return [
        *_forecast(status),
        *_quality(qualities[-1] if qualities else None, status.tasks.labeled, _missing(status)),
        *_together(page),
        *(_unmeasured(config.holdout_fraction) if page.history and not qualities else ()),
        *_error_rates(error_rate_difference(page.asked_in_full), status.metric, bool(page.history)),
        *_agreement([entry.row.agreement for entry in page.history]),
        *_left_out(answers),
        *_disputed(*page.left_out),
        *_twins(status),
        *_pretext(status),
        *_accepted(page.services.store.of(page.project.id).dashboard.accepted(), status.tasks.labeled),
    ]


def _forecast(status: Status) -> Iterable[Finding]:
    forecast, text = status.forecast, status.next_round_text
    if forecast is None or text is None:
        return
    errors = round(forecast.gain * status.tasks.available) if status.metric.counted else 0
    meaning = f" On the {status.tasks.available:,} images without a label that is about {count(errors, 'error')} fewer."
    tone: Tone = "good" if forecast.advice == "stop" else "plain"
    yield Finding(tone, text + (meaning if errors > 0 else ""))


def _unmeasured(holdout_fraction: float) -> Iterable[Finding]:
    remedy = " Set holdout_fraction above 0." if holdout_fraction == 0 else ""
    yield Finding("warning", f"No random image is labeled yet, so nobody knows how good the model is.{remedy}")


def _quality(entry: Entry | None, labeled: int, missing: str) -> Iterable[Finding]:
    """Yield how good the newest measured model is; missing: what an advice still needs."""
    if entry is None:
        return
    quality, metric = entry.quality, entry.quality.metric
    images, labels = count(quality.size, "random image"), count(entry.row.labels or 0, "label")
    if labeled > (entry.row.labels or 0):  # the others are random images, or came since
        labels = f"{entry.row.labels or 0:,} of the {labeled:,} labels"
    unseen = "that it has not learned from"
    mean = metric.number(quality.mean or 0.0)
    if quality.few:
        result = f"is right on {quality.quality:,g} of" if metric.counted else f"has a mean {metric.name} of {mean} on"
        text = f"Trained on {labels}, the model {result} {images} {unseen}: too few to say how good it is.{missing}"
        yield Finding("warning", text)
        return
    result = f"is right on {mean} of" if metric.counted else f"has a mean {metric.name} of {mean} on"
    low, high = quality.interval
    yield Finding(
        "plain",
        f"Trained on {labels}, the model {result} {images} {unseen}. "
        f"For the images without a label that means about {metric.interval(low, high)} (95% interval).",
    )
    if high - low > WIDE:
        half = (high - low) / 2
        noise = f"{100 * half:.0f} points" if metric.counted else metric.number(half)
        text = f"{images} say little: differences below {noise} are noise."
        yield Finding("warning", text + (missing or " Each round adds some."))


def _together(page: ProjectPage) -> Iterable[Finding]:
    """Yield what figures say of all images together, beside the mean over the images."""
    for name in page.problem.figures:
        says = FIGURES[name].says
        text = says(page) if says is not None else None
        if text is not None:
            yield Finding("plain", text)


def _missing(status: Status) -> str:
    """Return what an advice still needs, with a space before it; nothing if the forecast says so already."""
    missing = status.next_round.missing
    said = status.forecast is not None and status.forecast.advice == "unknown"
    return f" {missing}." if missing and not said and not status.done else ""


def _error_rates(rates: ErrorRateDifference | None, metric: Metric, has_model: bool) -> Iterable[Finding]:
    if rates is None:
        if has_model:
            text = "Whether asked images are harder than random ones shows when the first round that a model chose is"
            yield Finding("plain", f"{text} answered.")
        return
    numbers = _rates(rates, metric)
    verdict = query_verdict(rates)
    if verdict == "harder":
        yield Finding("good", f"Asked images are harder than random ones: {numbers} Choosing images helps.")
    elif verdict == "worse":
        yield Finding("warning", f"The queue is worse than a random one: {numbers} Random images would teach more.")
    elif verdict == "no better":
        yield Finding("warning", f"The queue is no better than a random one, as far as one can tell: {numbers}")
    else:
        yield Finding("plain", f"Too early to tell whether asked images are harder than random ones: {numbers}")


def _rates(rates: ErrorRateDifference, metric: Metric) -> str:
    """Return both rates and their difference as a sentence without its beginning."""
    asked, random = count(rates.asked.images, "image"), count(rates.random.images, "random one")
    if metric.counted:
        low, high = (metric.difference(value) for value in rates.interval)
        return (
            f"when it asked, the model was wrong on {percent(rates.asked.share)} of {asked} that it chose and on "
            f"{percent(rates.random.share)} of {random}, a difference of {metric.difference(rates.difference)} points "
            f"({low} to {high})."
        )
    # Of qualities, the difference has the other sign.
    high, low = (metric.difference(-value) for value in rates.interval)
    return (
        f"when it asked, the model had a mean {metric.name} of {metric.number(1 - rates.asked.share)} on {asked} that "
        f"it chose and of {metric.number(1 - rates.random.share)} on {random}, a difference of "
        f"{metric.difference(-rates.difference)} ({low} to {high})."
    )


def _agreement(agreements: Iterable[float | None]) -> Iterable[Finding]:
    known = [agreement for agreement in agreements if agreement is not None]
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


def _left_out(answers: Mapping[Reason, int]) -> Iterable[Finding]:
    text = left_out(answers)
    if text is not None:
        yield Finding("plain", f"Answered but not trained on: {text}.")


def _disputed(objects: int, images: int) -> Iterable[Finding]:
    if objects:
        text = (
            f"Left out of the answers: {count(objects, 'object')} on {count(images, 'image')} that no more than half "
            "of the annotators drew, or to which they give different classes."
        )
        yield Finding("plain", text)


def _twins(status: Status) -> Iterable[Finding]:
    text = twins_text(status.twins) if status.twins else None
    if text is not None:
        yield Finding("plain", text)


def _pretext(status: Status) -> Iterable[Finding]:
    text = training_text(status.pretext) if status.pretext else None
    if text is not None:
        yield Finding("plain", text)


def _accepted(accepted: int, labeled: int) -> Iterable[Finding]:
    if accepted:
        are = "is a prediction" if accepted == 1 else "are predictions"
        text = f"Of {count(labeled, 'label')}, {accepted:,} {are} that a person took over unchanged: they are answers."
        yield Finding("plain", text)
