"""Downloads: the model, and labels, losses and predictions as tables and in formats of other programs, streamed.

File names count rounds from 1, as the pages do.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from flask import Blueprint, Response, send_file
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from backend.autolabel.preview import autolabel_version
from backend.chunks import chunks
from backend.errors import ConfigError, ProjectError
from backend.items.sizes import item_at, views_of
from backend.labeling.base import Item, Labeling
from backend.labeling.project import labeling_of
from backend.project_files import Files
from backend.status.predictions import PoolPredictions
from backend.store import Answer, ProjectRow, RoundRow
from backend.store.dashboard_queries import ImageLine
from backend.web.cache import newest_predictions
from backend.web.formats import FORMATS, formats_of
from backend.web.formats.base import Answers, Entry
from backend.web.formats.spool import PIECE
from backend.web.routes.project_status import find_project
from backend.web.services import services
from model.problems import problem
from model.problems.base import Prediction, Target

blueprint = Blueprint("downloads", __name__)

ROWS = 500  # in one piece of a stream
NAMES = ", ".join(f'"{name}"' for name in FORMATS)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a cell that a spreadsheet executes


@blueprint.get("/api/projects/<project:project_name>/losses.csv")
def losses(project_name: str) -> ResponseReturnValue:
    """Return losses and batches as CSV, one image per line."""
    project = find_project(project_name)
    head = ("task", "image", "pretext_loss", "pretext_batch", "answer", "label")

    def row(line: ImageLine) -> tuple[Any, ...]:
        answer = "" if line.answer == Answer.NONE else line.answer.value
        return line.task_id, line.image, line.loss, line.batch, answer, _text(line.target)

    return _table(
        f"project-{project_name}-losses.csv", head, map(row, services().store.of(project.id).dashboard.lines())
    )


@blueprint.get("/api/projects/<project:project_name>/predictions.csv")
def predictions_csv(project_name: str) -> ResponseReturnValue:
    """Return the newest model's class and calibrated confidence, and the annotators' label, one image per line."""
    project = find_project(project_name)
    predictions = newest_predictions(project)
    head = ("task", "image", "prediction", "confidence", "label")

    def row(line: ImageLine, prediction: Prediction, confidence: float) -> tuple[Any, ...]:
        return line.task_id, line.image, _text(prediction), f"{confidence:.4f}", _text(line.target)

    name = f"project-{project_name}-predictions-round-{predictions.row.number + 1}.csv"
    return _table(name, head, (row(*line) for line in _lines(project, predictions)))


@blueprint.get("/api/projects/<project:project_name>/predictions.json")
def predictions_json(project_name: str) -> ResponseReturnValue:
    """Return the same as tasks with predictions, in Label Studio's import format."""
    project = find_project(project_name)
    predictions = newest_predictions(project)
    labeling = _labeling(project)
    views, version = views_of(Files.of(services().settings.data_dir, project.id), labeling), predictions.row.number
    tasks = (
        _task(labeling, autolabel_version(version), item_at(views, line[0].pool_index), *line)
        for line in _lines(project, predictions)
    )
    name = f"project-{project_name}-predictions-round-{predictions.row.number + 1}.json"
    return _attached(name, "application/json", _json_list(tasks))


@blueprint.get(f"/api/projects/<project:project_name>/<any(labels, predictions):of>.<any({NAMES}):form>")
def in_format(project_name: str, of: str, form: str) -> ResponseReturnValue:
    """Return what people have labeled, or what the newest model says of the images without an answer.

    form: the end of a file's name, under which ``backend.web.formats`` lists its formats.
    """
    project = find_project(project_name)
    labeling, chosen = _labeling(project), FORMATS[form]
    if labeling.problem not in chosen.problems:
        instead = ", ".join(formats_of(labeling.problem)) or "predictions.csv and predictions.json"
        raise NotFound(f"{form} does not fit {labeling.problem} projects: take {instead}")
    views = views_of(Files.of(services().settings.data_dir, project.id), labeling)
    lines, version = _labels(project) if of == "labels" else _predicted(project)
    entries = (Entry(line.task_id, line.image, item_at(views, line.pool_index), *said) for line, *said in lines)
    answers = Answers(problem(labeling.problem), labeling.classes, entries, sized=chosen.sized)
    if not answers:
        raise NotFound(f"there is no image for this file: {answers.why_empty}")
    return _attached(f"project-{project_name}-{of}{version}.{form}", chosen.mimetype, chosen.write(answers))


def _labels(project: ProjectRow) -> tuple[Iterator[tuple[ImageLine, Target]], str]:
    lines = services().store.of(project.id).dashboard.lines()
    return ((line, line.target) for line in lines if line.answer == Answer.LABELED), ""


def _predicted(project: ProjectRow) -> tuple[Iterator[tuple[ImageLine, Prediction, float]], str]:
    predictions = newest_predictions(project)
    lines = (line for line in _lines(project, predictions) if line[0].answer == Answer.NONE)
    return lines, f"-round-{predictions.row.number + 1}"


@blueprint.get("/api/projects/<project:project_name>/model.<any(onnx, safetensors):kind>")
def model(project_name: str, kind: str) -> ResponseReturnValue:
    """Return the newest exported model, as ONNX or safetensors."""
    project = find_project(project_name)
    row = exported_model(project)
    if row is None:
        raise NotFound("the model's files are written after each training; there are none yet")
    files = Files.of(services().settings.data_dir, project.id)
    path = files.onnx(row.number) if kind == "onnx" else files.safetensors(row.number)
    name = f"project-{project_name}-round-{row.number + 1}.{kind}"
    return send_file(path.resolve(), "application/octet-stream", as_attachment=True, download_name=name)


def exported_model(project: ProjectRow) -> RoundRow | None:
    """Return the newest round whose model lies there for other programs, or None."""
    here = services()
    files = Files.of(here.settings.data_dir, project.id)
    done = [row for row in here.store.of(project.id).rounds.all() if row.exported]
    there = [row for row in done if files.onnx(row.number).exists() and files.safetensors(row.number).exists()]
    return there[-1] if there else None


def _labeling(project: ProjectRow) -> Labeling:
    try:
        return labeling_of(project)
    except (ConfigError, ProjectError) as error:
        raise NotFound(str(error)) from error


def _lines(project: ProjectRow, predictions: PoolPredictions) -> Iterator[tuple[ImageLine, Prediction, float]]:
    """Yield every image that the model has seen, with its prediction and calibrated confidence."""
    seen = (line for line in services().store.of(project.id).dashboard.lines() if line.pool_index < predictions.size)
    for part in chunks(seen, ROWS):
        indices = np.array([line.pool_index for line in part], np.int64)
        confidences = predictions.confidences[indices].tolist()
        yield from zip(part, predictions.predict(indices), confidences, strict=True)


def _task(
    labeling: Labeling, version: str, item: Item, line: ImageLine, prediction: Prediction, confidence: float
) -> dict[str, Any]:
    stored = {
        "model_version": version,
        "score": round(confidence, 6),
        "result": labeling.result(prediction, item),
    }
    return {"id": line.task_id, "data": {labeling.data_key: line.image}, "predictions": [stored]}


def _table(name: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Response:
    def pieces() -> Iterator[bytes]:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(head)
        for number, row in enumerate(rows):
            writer.writerow(map(_cell, row))
            if number % ROWS == 0:
                yield _take(buffer)
        yield _take(buffer)

    return _attached(name, "text/csv", pieces())


def _text(target: Target | None) -> str | None:
    """Write a target into a cell: a class as it is, anything else as JSON."""
    return target if target is None or isinstance(target, str) else json.dumps(target, ensure_ascii=False)


def _cell(value: Any) -> Any:
    """Return the value so that a spreadsheet shows it and does not run it: texts come from whoever imports tasks."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json_list(items: Iterable[Any]) -> Iterator[bytes]:
    before = "["
    for item in items:
        yield (before + json.dumps(item, ensure_ascii=False)).encode()
        before = ",\n"
    yield b"]\n" if before != "[" else b"[]\n"


def _attached(name: str, kind: str, pieces: Iterator[bytes]) -> Response:
    # The first piece is computed now, while an error can still become an error answer.
    gathered = _gathered(pieces)
    first = next(gathered, b"")

    def whole() -> Iterator[bytes]:
        yield first
        yield from gathered

    response = Response(whole(), mimetype=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield small pieces together: each is sent by itself."""
    waiting, size = list[bytes](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _take(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()
