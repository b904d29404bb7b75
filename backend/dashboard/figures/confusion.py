"""The confusion matrix on the holdout."""

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure, heat_map, names, plain
from backend.dashboard.project_page import ProjectPage
from backend.status.predictions import PoolPredictions
from model.evaluation.metrics import confusion_matrix
from model.querying.outputs import IntArray

MAX_CLASSES = 40

WAITING = "It appears with the first model and the first labeled random images."


def draw(page: ProjectPage) -> Figure | str:
    """Draw true against predicted classes."""
    held = page.held
    if held is None:
        return WAITING
    classes, counts = shown(held)
    labels = names(classes)
    truth_sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    trace = heat_map(
        labels,
        labels,
        np.round(100 * counts / truth_sums, 1).tolist(),
        [[value or "" for value in row] for row in counts.tolist()],
        zmax=100,
        customdata=[
            [[int(value), plain(true), plain(predicted)] for value, predicted in zip(row, classes, strict=True)]
            for row, true in zip(counts, classes, strict=True)
        ],
        hovertemplate="%{customdata[0]} of %{customdata[1]}<br>taken for %{customdata[2]} (%{z:.0f}%)<extra></extra>",
    )
    return figure(
        [trace],
        xaxis=axis("model", type="category"),
        yaxis=axis("annotators", type="category", autorange="reversed"),
    )


def shown(held: PoolPredictions) -> tuple[list[str], IntArray]:
    """Return classes (C,) and counts (C, C), row true; of many classes those with most images."""
    truth, predicted = _class_ids(held)
    counts = confusion_matrix(predicted, truth, len(held.classes))
    if len(held.classes) <= MAX_CLASSES:
        return list(held.classes), counts
    weight = counts.sum(axis=0) + counts.sum(axis=1)
    kept = np.sort(np.argsort(-weight, kind="stable")[:MAX_CLASSES])
    return [held.classes[i] for i in kept], counts[np.ix_(kept, kept)]


def worst(held: PoolPredictions, limit: int = 5) -> list[tuple[str, str, int]]:
    """Return the most frequent confusions: true class, predicted class, images."""
    truth, predicted = _class_ids(held)
    wrong = truth != predicted
    pairs, images = np.unique(np.stack([truth[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-images, kind="stable")[:limit]
    return [(held.classes[i], held.classes[j], int(n)) for (i, j), n in zip(pairs.T[order], images[order], strict=True)]


def _class_ids(held: PoolPredictions) -> tuple[IntArray, IntArray]:
    """Return the true and the predicted class of each holdout image, (h,) each."""
    truth = held.problem.encode(held.targets, held.classes)
    return truth, held.problem.encode(held.predict(held.held), held.classes)
