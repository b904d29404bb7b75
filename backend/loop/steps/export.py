"""The export job: the newest model as files for other programs."""

from backend.autolabel.preview import open_rest
from backend.loop.context import Work
from backend.loop.heartbeat import Progress


def export(work: Work, progress: Progress) -> None:
    """Write the newest model as ONNX and safetensors, its confidences made honest by the holdout."""
    from model.export import export as write

    row = work.project_store.rounds.newest_model()
    if row is None or row.exported:
        return
    progress(0.0)
    rest = open_rest(work.store, work.context.settings.data_dir, work.project, row)
    weights = work.files.model(row.number)
    if rest is not None and weights.exists():
        files = {"onnx": work.files.onnx(row.number), "safetensors": work.files.safetensors(row.number)}
        write(weights, rest.classes, rest.temperature.value, **files)
    work.project_store.rounds.set(row.number, exported=True)
