"""The images of the holdout that the newest model is worst at, with both answers drawn over them."""

from dataclasses import dataclass

import numpy as np

from backend.dashboard.overlays.base import Overlay, Sides
from backend.dashboard.pictures import Picture, overlay_of, pictures
from backend.dashboard.project_page import HoldoutVersion, ProjectPage
from backend.status.predictions import PoolPredictions
from model.querying.outputs import IntArray


@dataclass(frozen=True)
class WorstImage:
    """An image of the holdout, with what annotators and model say of it. confidence: the quality the model expects."""

    task_id: int
    picture: Picture
    quality: float
    confidence: float | None
    sides: Sides


@dataclass(frozen=True)
class WorstImages:
    """The worst images first. wrong: all that are not perfect. compared, size: images compared so far, and all."""

    images: list[WorstImage]
    wrong: int
    compared: int
    size: int


def worst_images(page: ProjectPage, limit: int) -> WorstImages | None:
    """Return the images of the lowest quality; of equal ones that of which the model is surer comes first.

    None without a labeled holdout, or where answers are of the whole image.
    """
    overlay, held = overlay_of(page), page.held
    if overlay is None or held is None:
        return None
    compared = page.compared(whole=False)
    known = np.array([row for row, value in enumerate(compared) if value is not None], np.int64)
    quality = np.array([page.problem.quality_of(compared[row]) for row in known], np.float64)
    confidence = held.confidence(held.held[known])
    order = np.lexsort((-confidence, quality))
    order = order[quality[order] < 1]
    chosen = order[:limit]
    rows, shown = known[chosen], (quality[chosen].tolist(), confidence[chosen].tolist())
    targets = [held.targets[row] for row in rows]
    version = HoldoutVersion((page.model_version, page.pool_version), held.held[rows].tolist(), targets)
    images = page.keep(f"worst {limit}", version, lambda: _images(page, overlay, held, rows, *shown))
    return WorstImages(images, len(order), len(known), len(held.held))


def _images(
    page: ProjectPage,
    overlay: Overlay,
    held: PoolPredictions,
    rows: IntArray,
    qualities: list[float],
    confidences: list[float],
) -> list[WorstImage]:
    indices = held.held[rows]
    tasks = page.services.store.of(page.project.id).dashboard.task_ids(indices.tolist())
    columns = indices.tolist(), pictures(page, indices.tolist()), held.predict(indices), qualities, confidences
    return [
        WorstImage(
            tasks[index],
            picture,
            quality,
            confidence if held.has_confidence else None,
            overlay.sides(prediction, held.targets[row], picture.size),
        )
        for row, index, picture, prediction, quality, confidence in zip(rows.tolist(), *columns, strict=True)
        if index in tasks
    ]
