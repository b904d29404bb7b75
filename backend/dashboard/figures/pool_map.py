"""The map of the pool: the images in two dimensions, by principal components."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.dashboard.figures.base import Figure, figure
from backend.dashboard.project_page import MIN_MAPPED, ProjectView
from model.querying.outputs import FloatArray, IntArray

MAX_REST, MAX_LABELED, MAX_QUEUED = 2000, 500, 500  # points of each kind
MAX_SIDE = 12  # pixels to which images are thinned out where there is nothing better to compare them by
FLOOR = 1e-4  # posteriors below it count as it
SEED = 0  # of the sample: the same points every time

MARKERS: dict[str, dict[str, Any]] = {
    "rest": {"color": "var(--rest)", "size": 5, "opacity": 0.8},
    "labeled": {"color": "var(--labeled)", "size": 7, "opacity": 0.8},
    "queued": {"color": "var(--queued)", "size": 8, "symbol": "diamond", "opacity": 0.9},
}


@dataclass(frozen=True)
class Projection:
    """From features (n, D) to the plane: their principal components."""

    mean: FloatArray  # (D,)
    axes: FloatArray  # (D, 2)

    @classmethod
    def fit(cls, features: FloatArray) -> "Projection":
        """Find the two directions in which ``features`` (n, D) differ most."""
        mean = features.mean(axis=0)
        covariance = np.cov(features - mean, rowvar=False).reshape(features.shape[1], features.shape[1])
        _, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :2]
        if axes.shape[1] < 2:
            axes = np.hstack([axes, np.zeros_like(axes)])
        # An eigenvector's sign is an accident: fixed, so that the map does not flip from round to round.
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
        return cls(mean, axes * np.where(signs == 0, 1, signs))

    def place(self, features: FloatArray) -> FloatArray:
        """Give the places (n, 2) of features (n, D)."""
        places: FloatArray = (features - self.mean) @ self.axes
        return places


@dataclass(frozen=True)
class Features:
    """What images are compared by: rows (N, D) by pool index, and how to make them comparable."""

    source: str
    rows: Any  # array or memory map

    def take(self, indices: IntArray) -> FloatArray:
        """Give the features (n, D) of images."""
        found = np.asarray(self.rows[indices], np.float64).reshape(len(indices), -1)
        if self.source == "posteriors":
            found = np.log(np.maximum(found, FLOOR))
            found -= found.mean(axis=1, keepdims=True)
        return found


def draw(view: ProjectView) -> Figure | str:
    """Plot a sample of the pool: the rest, what is labeled, what is queued."""
    features = _features(view)
    if features is None:
        return "The map appears when the images are fetched."
    pool = view.losses.pool_index[view.losses.pool_index < len(features.rows)]
    if len(pool) < MIN_MAPPED:
        return f"A map needs at least {MIN_MAPPED} images."
    version = (features.source, view.model.number if view.model else None, view.pool_version)
    sample = view.keep("map sample", version, lambda: _sample(pool, MAX_REST))
    projection = view.keep("map", version, lambda: Projection.fit(features.take(sample)))
    layers = _layers(view, sample, len(features.rows))
    points = np.concatenate(list(layers.values()))
    tasks = view.here.store.of(view.project.id).dashboard.task_ids(points.tolist())
    guesses = _guesses(view, points)
    axis = {"visible": False, "zeroline": False}
    return figure(
        [
            _trace(name, indices, projection.place(features.take(indices)), tasks, guesses)
            for name, indices in layers.items()
            if len(indices)
        ],
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis=axis,
        yaxis=axis,
        meta={"source": features.source, "shown": len(points), "pool": view.status.tasks.ok},
    )


def _layers(view: ProjectView, sample: IntArray, size: int) -> dict[str, IntArray]:
    """Give the pool indices of each kind, in drawing order, those below ``size`` only."""
    queued = np.array([image.pool_index for image in view.queue(MAX_QUEUED)], np.int64)
    taken = np.concatenate([queued, view.labeled])
    return {
        "rest": sample[~np.isin(sample, taken)],
        "labeled": _sample(view.labeled[view.labeled < size], MAX_LABELED),
        "queued": queued[queued < size],
    }


def _features(view: ProjectView) -> Features | None:
    if view.model is not None:
        path = view.files.embeddings(view.model.number)
        if path.exists():
            return Features("embeddings", np.load(path, mmap_mode="r"))
    probs = view.probs(view.model)
    if probs is not None and probs.shape[1] > 2:
        return Features("posteriors", probs)
    bank = view.bank()
    if bank is None or not len(bank):
        return None
    step = -(-bank.side // MAX_SIDE)
    return Features("pixels", bank.array[:, step // 2 :: step, step // 2 :: step])


def _sample(indices: IntArray, most: int) -> IntArray:
    if len(indices) <= most:
        return indices
    return np.sort(np.random.default_rng(SEED).choice(indices, most, replace=False))


def _guesses(view: ProjectView, indices: IntArray) -> dict[int, tuple[str, float]]:
    """Give the newest model's class and confidence by pool index."""
    probs, model = view.probs(view.model), view.model
    if probs is None or model is None or model.classes is None or probs.shape[1] != len(model.classes):
        return {}
    known = indices[indices < len(probs)]
    rows = np.asarray(probs[known])
    best = rows.argmax(axis=1)
    return {
        int(index): (model.classes[int(number)], float(row[number]))
        for index, number, row in zip(known, best, rows, strict=True)
    }


def _trace(
    name: str,
    indices: IntArray,
    places: FloatArray,
    tasks: dict[int, int],
    guesses: dict[int, tuple[str, float]],
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": np.round(places[:, 0], 3).tolist(),
        "y": np.round(places[:, 1], 3).tolist(),
        "customdata": [
            [int(index), tasks.get(int(index)), _caption(name, guesses.get(int(index)))] for index in indices
        ],
        "hoverinfo": "none",
        "marker": MARKERS[name],
    }


def _caption(name: str, guess: tuple[str, float] | None) -> str:
    # Shown as text by the page's script, not by Plotly: nothing in it is markup.
    return f"{name}: looks like {guess[0]} ({guess[1]:.0%})" if guess else name
