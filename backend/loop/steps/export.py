"""The export job: the newest model as files for other programs."""

from pathlib import Path

from backend.loop.heartbeat import Progress
from backend.project_files import Files
from backend.status.predictions import open_predictions
from backend.store import ProjectStore


def export(store: ProjectStore, files: Files, encoders: Path, progress: Progress) -> None:
    """Write the newest model as ONNX and safetensors, its confidences calibrated by the holdout."""
    from model.export import export as write

    row = store.rounds.newest_model()
    if row is None or row.exported:
        return
    progress(0.0)
    predictions = open_predictions(store, files, row)
    weights = files.model(row.number)
    if predictions is not None and weights.exists():
        paths = {"onnx": files.onnx(row.number), "safetensors": files.safetensors(row.number)}
        write(weights, predictions.classes, predictions.temperature.value, **paths, encoders=encoders)
    store.rounds.set(row.number, exported=True)
