"""Charts of ``model.h1``: the rank of an image by pretext loss against its rank by main-task loss (PT4AL, Fig. 2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.lab.loss_correlation import TaskCorrelation
from model.lab.report.chart import Chart, Trace, colour
from model.querying.outputs import FloatArray

MOST_POINTS = 2000


def charts(rows: Sequence[TaskCorrelation], work: Path) -> list[Chart]:
    """Return the bars of all tasks, and for each task the points of the first seed whose losses are saved."""
    drawn = [_bars(rows)]
    for number, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
        measured = [row for row in rows if row["task"] == task and row["rho"] is not None]
        paths = [(row, work / f"seed-{row['seed']}" / f"h1-{task}.npz") for row in measured]
        saved = next(((row, path) for row, path in paths if path.exists()), None)
        if saved is not None:
            drawn.append(_scatter(*saved, number))
    return [chart for chart in drawn if chart.traces]


def _bars(rows: Sequence[TaskCorrelation]) -> Chart:
    tasks = dict.fromkeys(row["task"] for row in rows)
    kinds = (("rho", "pool, unseen by the main model"), ("rho_test", "test images, unseen by both"))
    traces = []
    for number, (field, name) in enumerate(kinds):
        means = {task: mean for task in tasks if (mean := _mean(rows, task, field)) is not None}
        if means:
            traces.append(Trace(name, list(means), list(means.values()), colour(number)))
    note = "Mean over the seeds."
    return Chart(
        "rho", "Correlation of pretext loss and main-task loss", "bars", "", "Spearman's rho", traces, note, zero=True
    )


def _mean(rows: Sequence[TaskCorrelation], task: str, field: str) -> float | None:
    values = [row["rho"] if field == "rho" else row["rho_test"] for row in rows if row["task"] == task]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _scatter(row: TaskCorrelation, path: Path, number: int) -> Chart:
    with np.load(path) as losses:
        pretext, main = _ranks(losses["pretext"]), _ranks(losses["main"])
    shown = np.random.default_rng(0).permutation(len(pretext))[:MOST_POINTS]
    trace = Trace(row["task"], pretext[shown].tolist(), main[shown].tolist(), colour(number))
    note = f"Spearman's rho {row['rho']:.3f} over {row['images']} images, seed {row['seed']}; 0 is the lowest loss."
    title = f"Rank by pretext loss and by main-task loss: {row['task']}"
    return Chart(f"ranks-{row['task']}", title, "points", "share of images with lower pretext loss",
                 "share with lower main-task loss", [trace], note)  # fmt: skip


def _ranks(losses: FloatArray) -> FloatArray:
    """Return the share of images with a lower loss, (n,) -> (n,) in [0, 1)."""
    ranks = np.empty(len(losses))
    ranks[np.argsort(losses, kind="stable")] = np.arange(len(losses))
    shares: FloatArray = ranks / len(losses)
    return shares
