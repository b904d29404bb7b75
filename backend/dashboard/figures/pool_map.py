"""The map of the pool: the images in two dimensions, by principal components."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.dashboard.figures.base import Figure, figure
from backend.dashboard.project_page import MIN_MAPPED, ProjectPage
from backend.dashboard.text import of_target
from model.learners.scaling import query_features
from model.querying.outputs import FloatArray, IntArray

MAX_REST, MAX_LABELED, MAX_QUEUED = 2000, 500, 500  # points of each kind
MAX_SIDE = 12  # pixels a side of the images that are compared where a model has no features
FLOOR = 1e-4  # probabilities below it count as it
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
        """Return the projection onto the two directions in which ``features`` (n, D) differ most."""
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
        """Return the places (n, 2) of features (n, D)."""
        places: FloatArray = (features - self.mean) @ self.axes
        return places


@dataclass(frozen=True)
class Features:
    """What images are compared by: rows (N, D) by pool index, and how to make them comparable."""

    source: str
    rows: Any  # array or memory map

    def take(self, indices: IntArray) -> FloatArray:
        """Return the features (n, D) of images."""
        features = np.asarray(self.rows[indices], np.float64).reshape(len(indices), -1)
        if self.source == "posteriors":
            features = np.log(np.maximum(features, FLOOR))
            features -= features.mean(axis=1, keepdims=True)
        elif self.source == "probabilities":
            features = np.clip(features, FLOOR, 1 - FLOOR)
            features = np.log(features / (1 - features))
        return features


def draw(page: ProjectPage) -> Figure | str:
    """Plot a sample of the pool: the rest, what is labeled, what is queued."""
    features = _features(page)
    if features is None:
        return "The map appears when the images are fetched."
    pool = page.losses.pool_index[page.losses.pool_index < len(features.rows)]
    if len(pool) < MIN_MAPPED:
        return f"A map needs at least {MIN_MAPPED} images."
    version = (features.source, page.model.number if page.model else None, page.pool_version)
    sample = page.keep("map sample", version, lambda: _sample(pool, MAX_REST))
    projection = page.keep("map", version, lambda: Projection.fit(features.take(sample)))
    layers = _layers(page, sample, len(features.rows))
    points = np.concatenate(list(layers.values()))
    tasks = page.services.store.of(page.project.id).dashboard.task_ids(points.tolist())
    captions = _captions(page, points)
    axis = {"visible": False, "zeroline": False}
    return figure(
        [
            _trace(name, indices, projection.place(features.take(indices)), tasks, captions)
            for name, indices in layers.items()
            if len(indices)
        ],
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis=axis,
        yaxis=axis,
        meta={"source": features.source, "shown": len(points), "pool": page.status.tasks.ok},
    )


def _layers(page: ProjectPage, sample: IntArray, size: int) -> dict[str, IntArray]:
    """Return the pool indices of each kind, in drawing order, those below ``size`` only."""
    queued = np.array([image.pool_index for image in page.queue(MAX_QUEUED)], np.int64)
    taken = np.concatenate([queued, page.labeled])
    return {
        "rest": sample[~np.isin(sample, taken)],
        "labeled": _sample(page.labeled[page.labeled < size], MAX_LABELED),
        "queued": queued[queued < size],
    }


def _features(page: ProjectPage) -> Features | None:
    encoded = page.features()
    if encoded is not None and len(encoded):
        # The mean of the pool is behind them, which takes a while to read.
        version = page.project.features_key, page.pool_version
        return Features("features", page.keep("map features", version, lambda: query_features(encoded, len(encoded))))
    if page.model is not None:
        path = page.files.embeddings(page.model.number)
        if path.exists():
            return Features("embeddings", np.load(path, mmap_mode="r"))
    outputs = page.predictions.outputs if page.predictions is not None else None
    if outputs is not None and outputs.probs is not None and outputs.probs.shape[1] > 2:
        return Features("posteriors", outputs.probs)
    if outputs is not None and outputs.class_probs is not None and outputs.class_probs.shape[1] > 1:
        return Features("probabilities", outputs.class_probs)
    bank = page.bank()
    if bank is None or not len(bank):
        return None
    step = -(-bank.side // MAX_SIDE)
    return Features("pixels", bank.array[:, step // 2 :: step, step // 2 :: step])


def _sample(indices: IntArray, most: int) -> IntArray:
    if len(indices) <= most:
        return indices
    return np.sort(np.random.default_rng(SEED).choice(indices, most, replace=False))


def _captions(page: ProjectPage, indices: IntArray) -> dict[int, str]:
    """Return what the newest model says of images, by pool index: ``cat (93%)``."""
    predictions = page.predictions
    if predictions is None:
        return {}
    known = indices[indices < predictions.size]
    texts = map(of_target, predictions.predict(known))
    if not predictions.has_confidence:
        return dict(zip(known.tolist(), texts, strict=True))
    confidences = predictions.confidence(known).tolist()
    return {
        index: f"{text} ({confidence:.0%})"
        for index, text, confidence in zip(known.tolist(), texts, confidences, strict=True)
    }


def _trace(
    name: str,
    indices: IntArray,
    places: FloatArray,
    tasks: dict[int, int],
    captions: dict[int, str],
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": np.round(places[:, 0], 3).tolist(),
        "y": np.round(places[:, 1], 3).tolist(),
        "customdata": [
            [int(index), tasks.get(int(index)), _caption(name, captions.get(int(index)))] for index in indices
        ],
        "hoverinfo": "none",
        "marker": MARKERS[name],
    }


def _caption(name: str, prediction: str | None) -> str:
    # Shown as text by the page's script, not by Plotly: nothing in it is markup.
    return f"{name}: looks like {prediction}" if prediction is not None else name
