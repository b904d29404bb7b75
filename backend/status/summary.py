"""The status of a project as JSON (``GET /api/projects/<id>``) and as the line on the model card."""

from typing import Any

from backend.status.forecast_text import query_verdict
from backend.status.learner_text import encoder_of
from backend.status.measured import measured
from backend.status.query_error_rate import ErrorRateDifference, Rate, error_rate_difference
from backend.status.status import Status
from backend.store import RoundRow, RoundState, Store
from backend.store.dashboard_queries import AskedQuality
from model.evaluation.forecast import GainForecast
from model.learners.registry import OWN
from model.problems import problem

CARD_VERDICTS = {
    "no better": "The queue is no better than random images so far.",
    "worse": "The queue is worse than random images.",
}


def asked_in_full(status: Status, asked: list[AskedQuality]) -> list[AskedQuality]:
    """Return what closed rounds have asked, those left out that a model of another problem has chosen.

    The queue is served with the hardest images first, so that half a round looks harder than the whole.
    """
    counted, problem_before = set[int](), status.problem
    for row in status.rounds:
        if row.state == RoundState.CLOSED and problem_before == status.problem:
            counted.add(row.number)
        problem_before = row.problem if row.has_model else problem_before
    return [row for row in asked if row.round in counted]


def read_error_rates(store: Store, status: Status) -> ErrorRateDifference | None:
    """Compare the images that a model has asked with random ones; None before there are any."""
    if sum(row.state == RoundState.CLOSED for row in status.rounds) < 2:
        return None  # the first round is asked without a model
    return error_rate_difference(asked_in_full(status, store.of(status.project.id).dashboard.asked_qualities()))


def dashboard_url(status: Status, public_url: str | None = None) -> str | None:
    """Return the address of a project's page: under ``public_url``, else where Label Studio reaches this backend."""
    base = public_url or status.project.backend_url
    return f"{base.rstrip('/')}/projects/{status.name}" if base else None


def as_json(status: Status, rates: ErrorRateDifference | None = None) -> dict[str, Any]:
    """Return the status in the form that scripts depend on; rates: what ``read_error_rates`` returns."""
    live, tasks = status.live, status.tasks
    return {
        "project": status.project.studio_project_id,
        "name": status.name,
        "server": status.project.server,
        "title": status.project.title,
        "stage": status.stage,
        "progress": status.progress,
        "waiting": status.waits,
        "error": status.error,
        "notice": status.notice,
        "active": status.project.active,
        "problem": status.labeling.problem if status.labeling else None,
        "metric": problem(status.problem).metric,
        "encoder": encoder_of(status.config),
        "learner": learner_of(status),
        "control": status.labeling.control if status.labeling else None,
        "pool": {
            "tasks": tasks.tasks,
            "images": tasks.ok,
            "broken": tasks.broken,
            "labeled": tasks.labeled,
            "equal": status.twins.equal if status.twins else None,
            "alike": status.twins.alike if status.twins else None,
        },
        "pretext": _pretext(status),
        "round": live.number if live else 0,
        "rounds": status.config.rounds,
        "queue": {
            "model_version": live.model_version if live else None,
            "size": live.asked if live else 0,
            "answered": status.answered,
            "ahead": status.ahead,
            "task_ids": status.task_ids,
        },
        "history": [_entry(row) for row in status.rounds if row.has_model],
        "config": status.config.model_dump(),
        "advice": advice_of(status),
        "outlook": _forecast(status, status.forecast) if status.forecast else None,
        "query": _query(rates),
    }


def _pretext(status: Status) -> dict[str, Any]:
    """Return the pretext task, and how its network was trained; null for a head on the encoder."""
    trained, fall = status.pretext, status.pretext.fall_at_the_end if status.pretext else None
    return {
        "task": status.config.pretext,
        "seconds": trained.seconds if trained else None,
        "curve": [round(loss, 5) for loss in trained.curve] if trained else None,
        "fall_at_the_end": None if fall is None else round(fall, 4),
    }


def learner_of(status: Status) -> str:
    """Return the learner of the newest model; before the first, the configured one."""
    model = status.newest_model
    if model is not None and model.learner is not None:
        return str(model.learner["learner"])
    return OWN if status.config.own_network else status.config.learner


def advice_of(status: Status) -> str:
    """Return ``finished``, ``stop``, ``unknown`` or ``continue``, which it is while no two models can be compared.

    It is ``finished`` when every image is answered: after the last batch, rounds of what is left go on.
    """
    if status.done:
        return "finished"
    return status.forecast.advice if status.forecast else "continue"


def as_line(status: Status, rates: ErrorRateDifference | None = None, dashboard: str | None = None) -> str:
    """Return the status in one line, for the model card; rates: what ``read_error_rates`` returns."""
    live = status.live
    parts = [f"Active learning: {status.stage}"]
    if live is not None:
        parts.append(f"round {status.round_of}")
        ahead = f", {status.ahead} more ahead of the next round" if status.ahead else ""
        parts.append(f"{status.answered} of {live.asked} answered{ahead}")
    if status.measured is not None:
        row, quality = status.measured
        name = quality.metric.name
        parts.append(f"{name} on random images {quality.sentence}, with {row.labels} labels to learn from")
    if status.done:
        parts.append("every image is answered, nothing is left to ask")
    elif status.finished:
        parts.append("all batches are asked; the rest of the pool follows, chosen in the same way, until you stop")
    text = "; ".join(parts) + "."
    advice = None if status.done else status.next_round_text
    address = f"More: {dashboard}" if dashboard else None
    for more in (status.error, status.notice, advice, CARD_VERDICTS.get(query_verdict(rates)), address):
        text += f" {more}" if more else ""
    return text


def _forecast(status: Status, forecast: GainForecast) -> dict[str, Any]:
    return {
        "labels": forecast.labels,
        "gain": round(forecast.gain, 4),
        "interval": [round(forecast.low, 4), round(forecast.high, 4)],
        "sentence": status.next_round_text,
    }


def _query(rates: ErrorRateDifference | None) -> dict[str, Any]:
    """Return how wrong the model was about asked and about random images before it saw their answers."""
    if rates is None:
        return {"verdict": query_verdict(rates), "asked": None, "random": None, "difference": None, "interval": None}
    low, high = rates.interval
    return {
        "verdict": query_verdict(rates),
        "asked": _rate(rates.asked),
        "random": _rate(rates.random),
        "difference": round(rates.difference, 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def _rate(rate: Rate) -> dict[str, float]:
    return {"wrong": _number(rate.wrong), "images": rate.images}


def _entry(row: RoundRow) -> dict[str, Any]:
    quality = measured(row)
    low, high = quality.interval
    mean = None if quality.mean is None else round(quality.mean, 4)
    counted = quality.metric.counted
    score = {problem(row.problem).scored: row.holdout_score} if row.holdout_score is not None else {}
    return {
        "round": row.number,
        "labels": row.labels,
        "model_version": row.model_version,
        "problem": row.problem,
        "learner": row.learner,
        "quality": mean,
        "holdout_accuracy": mean if counted else None,
        "holdout_size": quality.size,
        "holdout_correct": round(quality.quality) if counted else None,
        "interval": [round(low, 4), round(high, 4)],
        **score,
        "agreement": row.agreement,
        "seconds": {"retrain": 0.0, "score": 0.0, "ask": 0.0, **row.seconds},
    }


def _number(value: float) -> float:
    """Return a whole number as int, as JSON of counts has it, and others rounded."""
    return int(value) if value == int(value) else round(value, 4)
