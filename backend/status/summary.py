"""What people are told of a project: the JSON of ``GET /api/projects/<id>`` and the line on the model card."""

from typing import Any

from backend.errors import ConfigError, ProjectError
from backend.labeling.project import labeling_of
from backend.status.forecast_text import how_good, query_verdict
from backend.status.query_error_rate import ErrorRateDifference, Rate, error_rate_difference
from backend.status.status import Status
from backend.store import ProjectRow, RoundRow, RoundState, Store
from backend.store.dashboard_queries import AskedQuality
from model.evaluation.forecast import GainForecast
from model.evaluation.metrics import mean_interval
from model.problems import problem

SINGLE_LABEL = "single_label"

CARD_VERDICTS = {
    "no better": "The queue is no better than random images so far.",
    "worse": "The queue is worse than random images.",
}


def asked_in_full(status: Status, asked: list[AskedQuality]) -> list[AskedQuality]:
    """Keep what closed rounds have asked.

    The queue is served with the hardest images first, so that half a round looks harder than it is.
    """
    closed = {row.number for row in status.rounds if row.state == RoundState.CLOSED}
    return [row for row in asked if row.round in closed]


def read_error_rates(store: Store, status: Status) -> ErrorRateDifference | None:
    """Compare the images that a model has asked with random ones; None before there are any."""
    if sum(row.state == RoundState.CLOSED for row in status.rounds) < 2:
        return None  # the first round is asked without a model
    return error_rate_difference(asked_in_full(status, store.of(status.project.id).dashboard.asked_qualities()))


def dashboard_url(status: Status, public_url: str | None = None) -> str | None:
    """Give the address of a project's page: under ``public_url``, else where Label Studio reaches this backend."""
    base = public_url or status.project.backend_url
    return f"{base.rstrip('/')}/projects/{status.project.studio_project_id}" if base else None


def as_json(status: Status, hard: ErrorRateDifference | None = None) -> dict[str, Any]:
    """Give the status in the form that scripts depend on; ``hard`` is what ``read_error_rates`` says."""
    live, tasks = status.live, status.tasks
    return {
        "project": status.project.studio_project_id,
        "title": status.project.title,
        "stage": status.stage,
        "progress": status.progress,
        "waiting": status.waits,
        "error": status.error,
        "notice": status.notice,
        "active": status.project.active,
        "pool": {"tasks": tasks.tasks, "images": tasks.ok, "broken": tasks.broken, "labeled": tasks.labeled},
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
        **_learned(status.project),
        "advice": advice_of(status),
        "outlook": _forecast(status, status.forecast) if status.forecast else None,
        "query": _query(hard),
    }


def _learned(project: ProjectRow) -> dict[str, str | None]:
    """Return what is learned, how it is measured and the control tag; None where the configuration is unusable."""
    try:
        labeling = labeling_of(project)
    except (ConfigError, ProjectError):
        return {"problem": None, "metric": None, "control": None}
    return {"problem": labeling.problem, "metric": problem(labeling.problem).metric, "control": labeling.control}


def advice_of(status: Status) -> str:
    """Give ``finished``, ``stop``, ``unknown`` or ``continue``, which it is while no two models can be compared.

    It is ``finished`` when every image is answered: after the last batch, rounds of what is left go on.
    """
    if status.done:
        return "finished"
    return status.forecast.advice if status.forecast else "continue"


def as_line(status: Status, hard: ErrorRateDifference | None = None, dashboard: str | None = None) -> str:
    """Give the status in one line, for the model card."""
    live = status.live
    parts = [f"Active learning: {status.stage}"]
    if live is not None:
        parts.append(f"round {status.round_of}")
        ahead = f", {status.ahead} more ahead of the next round" if status.ahead else ""
        parts.append(f"{status.answered} of {live.asked} answered{ahead}")
    measured = [row for row in status.rounds if row.has_model and row.holdout_size]
    if measured:
        entry = _entry(measured[-1])
        good = how_good(measured[-1].holdout_quality or 0.0, entry["holdout_size"], entry["interval"])
        parts.append(f"accuracy on random images {good}, with {entry['labels']} labels to learn from")
    if status.done:
        parts.append("every image is answered, nothing is left to ask")
    elif status.finished:
        parts.append("all batches are asked; the rest of the pool follows, chosen in the same way, until you stop")
    text = "; ".join(parts) + "."
    coming = None if status.done else status.coming
    where = f"More: {dashboard}" if dashboard else None
    for more in (status.error, status.notice, coming, CARD_VERDICTS.get(query_verdict(hard)), where):
        text += f" {more}" if more else ""
    return text


def _forecast(status: Status, found: GainForecast) -> dict[str, Any]:
    return {
        "labels": found.labels,
        "gain": round(found.gain, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "sentence": status.coming,
    }


def _query(hard: ErrorRateDifference | None) -> dict[str, Any]:
    """Say whether asked images are harder than random ones: how often the model was wrong before it saw the answers."""
    if hard is None:
        return {"verdict": query_verdict(hard), "asked": None, "random": None, "difference": None, "interval": None}
    low, high = hard.interval
    return {
        "verdict": query_verdict(hard),
        "asked": _rate(hard.asked),
        "random": _rate(hard.random),
        "difference": round(hard.difference, 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def _rate(rate: Rate) -> dict[str, float]:
    return {"wrong": _number(rate.wrong), "images": rate.images}


def _entry(row: RoundRow) -> dict[str, Any]:
    size, quality = row.holdout_size or 0, row.holdout_quality or 0.0
    low, high = mean_interval(quality, row.holdout_squares or 0.0, size)
    mean = round(quality / size, 4) if size else None
    counted = row.problem == SINGLE_LABEL  # qualities of 0 and 1, whose sum is a number of images
    return {
        "round": row.number,
        "labels": row.labels,
        "model_version": row.model_version,
        "quality": mean,
        "holdout_accuracy": mean if counted else None,
        "holdout_size": size,
        "holdout_correct": round(quality) if counted else None,
        "interval": [round(low, 4), round(high, 4)],
        "agreement": row.agreement,
        "seconds": {"retrain": 0.0, "score": 0.0, "ask": 0.0, **row.seconds},
    }


def _number(value: float) -> float:
    """Return a whole number as int, as JSON of counts has it, and others rounded."""
    return int(value) if value == int(value) else round(value, 4)
