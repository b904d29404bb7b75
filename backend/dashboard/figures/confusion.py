"""The confusion matrix on the holdout."""

import numpy as np

from backend.dashboard.figures.base import Figure, axis, figure, heat_map, names, plain
from backend.dashboard.project_page import Holdout, ProjectView
from model.evaluation.metrics import confusion_matrix
from model.querying.outputs import IntArray

MAX_CLASSES = 40

WAITING = "It appears with the first model and the first labeled random images."


def draw(view: ProjectView) -> Figure | str:
    """Draw true against predicted classes."""
    held = view.holdout
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
            [[int(value), plain(said), plain(guess)] for value, guess in zip(row, classes, strict=True)]
            for row, said in zip(counts, classes, strict=True)
        ],
        hovertemplate="%{customdata[0]} of %{customdata[1]}<br>taken for %{customdata[2]} (%{z:.0f}%)<extra></extra>",
    )
    return figure(
        [trace],
        xaxis=axis("model", type="category"),
        yaxis=axis("annotators", type="category", autorange="reversed"),
    )


def shown(held: Holdout) -> tuple[list[str], IntArray]:
    """Give classes (C,) and counts (C, C), row true; of many classes those with most images."""
    counts = confusion_matrix(held.guesses, held.truth, len(held.classes))
    if len(held.classes) <= MAX_CLASSES:
        return held.classes, counts
    weight = counts.sum(axis=0) + counts.sum(axis=1)
    kept = np.sort(np.argsort(-weight, kind="stable")[:MAX_CLASSES])
    return [held.classes[i] for i in kept], counts[np.ix_(kept, kept)]


def worst(held: Holdout, limit: int = 5) -> list[tuple[str, str, int]]:
    """List the most frequent confusions: true class, predicted class, images."""
    wrong = held.truth != held.guesses
    pairs, images = np.unique(np.stack([held.truth[wrong], held.guesses[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-images, kind="stable")[:limit]
    return [(held.classes[i], held.classes[j], int(n)) for (i, j), n in zip(pairs.T[order], images[order], strict=True)]
