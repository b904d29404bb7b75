"""Downloads: the model, and tables of losses and predictions, which are streamed.

File names count rounds from 1, as the pages do.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, send_file
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from backend.autolabel.preview import Rest, autolabel_version
from backend.autolabel.routes import rest_of
from backend.errors import ProjectError
from backend.labeling.choices import LabelSpec, prediction_result, read_label_config
from backend.project_files import Files
from backend.store import Answer, ProjectRow, RoundRow
from backend.store.dashboard_queries import ImageLine
from backend.web.routes.project_status import find_project
from backend.web.services import services

blueprint = Blueprint("downloads", __name__)

ROWS = 500  # in one piece of a stream
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a cell that a spreadsheet executes


@blueprint.get("/api/projects/<int:studio_project_id>/losses.csv")
def losses(studio_project_id: int) -> ResponseReturnValue:
    """Return losses and batches as CSV, one image per line."""
    project = find_project(studio_project_id)
    head = ("task", "image", "pretext_loss", "pretext_batch", "answer", "label")

    def row(line: ImageLine) -> tuple[Any, ...]:
        answer = "" if line.answer == Answer.NONE else line.answer.value
        return line.task_id, line.image, line.loss, line.batch, answer, line.label

    return _table(
        f"project-{studio_project_id}-losses.csv", head, map(row, services().store.of(project.id).dashboard.lines())
    )


@blueprint.get("/api/projects/<int:studio_project_id>/predictions.csv")
def predictions_csv(studio_project_id: int) -> ResponseReturnValue:
    """Return the newest model's class and calibrated confidence, and the annotators' label, one image per line."""
    project = find_project(studio_project_id)
    rest = rest_of(project)
    head = ("task", "image", "prediction", "confidence", "label")

    def row(line: ImageLine, guess: str, confidence: float) -> tuple[Any, ...]:
        return line.task_id, line.image, guess, f"{confidence:.4f}", line.label

    name = f"project-{studio_project_id}-predictions-round-{rest.row.number + 1}.csv"
    return _table(name, head, (row(*found) for found in _guesses(project, rest)))


@blueprint.get("/api/projects/<int:studio_project_id>/predictions.json")
def predictions_json(studio_project_id: int) -> ResponseReturnValue:
    """Return the same as tasks with predictions, in Label Studio's import format."""
    project = find_project(studio_project_id)
    rest = rest_of(project)
    try:
        spec = read_label_config(project.label_config)
    except ProjectError as error:
        raise NotFound(str(error)) from error
    tasks = (_task(spec, autolabel_version(rest.row.number), *found) for found in _guesses(project, rest))
    name = f"project-{studio_project_id}-predictions-round-{rest.row.number + 1}.json"
    return _attached(name, "application/json", _json_list(tasks))


@blueprint.get("/api/projects/<int:studio_project_id>/model.<any(onnx, safetensors):kind>")
def model(studio_project_id: int, kind: str) -> ResponseReturnValue:
    """Return the newest exported model, as ONNX or safetensors."""
    project = find_project(studio_project_id)
    row = exported_model(project)
    if row is None:
        raise NotFound("the model's files are written after each training; there are none yet")
    files = Files.of(services().settings.data_dir, project.id)
    path = files.onnx(row.number) if kind == "onnx" else files.safetensors(row.number)
    name = f"project-{studio_project_id}-round-{row.number + 1}.{kind}"
    return send_file(path.resolve(), "application/octet-stream", as_attachment=True, download_name=name)


def exported_model(project: ProjectRow) -> RoundRow | None:
    """Return the newest round whose exported model is there, or None."""
    current = services()
    files = Files.of(current.settings.data_dir, project.id)
    rows = [row for row in current.store.of(project.id).rounds.all() if row.exported]
    rows = [row for row in rows if files.onnx(row.number).exists() and files.safetensors(row.number).exists()]
    return rows[-1] if rows else None


def _guesses(project: ProjectRow, rest: Rest) -> Iterator[tuple[ImageLine, str, float]]:
    """Yield every image that the model has seen, with its class and confidence."""
    best, confidence = rest.guesses
    for line in services().store.of(project.id).dashboard.lines():
        if line.pool_index < len(best):
            yield line, rest.classes[best[line.pool_index]], float(confidence[line.pool_index])


def _task(spec: LabelSpec, version: str, line: ImageLine, guess: str, confidence: float) -> dict[str, Any]:
    prediction = {
        "model_version": version,
        "score": round(confidence, 6),
        "result": prediction_result(guess, spec) if guess in spec.classes else [],
    }
    return {"id": line.task_id, "data": {spec.data_key: line.image}, "predictions": [prediction]}


def _table(name: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> Response:
    def text() -> Iterator[str]:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(head)
        for number, row in enumerate(rows):
            writer.writerow(map(_cell, row))
            if number % ROWS == 0:
                yield _take(buffer)
        yield _take(buffer)

    return _attached(name, "text/csv", text())


def _cell(value: Any) -> Any:
    """Return the value so that a spreadsheet shows it and does not run it: texts come from whoever imports tasks."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json_list(items: Iterable[Any]) -> Iterator[str]:
    before = "["
    for item in items:
        yield before + json.dumps(item, ensure_ascii=False)
        before = ",\n"
    yield "]\n" if before != "[" else "[]\n"


def _attached(name: str, kind: str, text: Iterator[str]) -> Response:
    # The first piece is computed now, while an error can still become an error answer.
    first = next(text, "")

    def whole() -> Iterator[str]:
        yield first
        yield from text

    response = Response(whole(), mimetype=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _take(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
