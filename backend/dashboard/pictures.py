"""The pictures of the pool that boxes and masks are drawn over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.dashboard.overlays import OVERLAYS
from backend.dashboard.overlays.base import Layer, Overlay, Size
from backend.dashboard.project_page import ProjectPage
from backend.items.sizes import views_of
from backend.store.dashboard_queries import QueuedImage
from model.data.views import UNKNOWN_SIZE, ViewBank
from model.problems.base import Target


@dataclass(frozen=True)
class Picture:
    """An image of the pool as the page shows it, in pixels. is_view: with its aspect kept; else that of the bank."""

    pool_index: int
    width: int
    height: int
    is_view: bool

    @property
    def size(self) -> Size:
        """Width and height."""
        return self.width, self.height


def views(page: ProjectPage) -> ViewBank | None:
    """Return the images with their aspect kept; None where the project has none."""
    return views_of(page.files, page.status.labeling) if page.status.labeling is not None else None


def pictures(page: ProjectPage, pool_indices: Sequence[int]) -> list[Picture]:
    """Return the picture of each of these images."""
    side = page.project.image_side or 1
    kept, indices = views(page), np.array(pool_indices, np.int64)
    if kept is None:
        return [Picture(index, side, side, is_view=False) for index in pool_indices]
    known = kept.knows(indices)
    known[known] = [size != UNKNOWN_SIZE for size in map(tuple, kept.sizes(indices[known]).tolist())]
    contents = iter(kept.letterboxes(indices[known]))
    return [
        Picture(index, *next(contents).content, is_view=True) if here else Picture(index, side, side, is_view=False)
        for index, here in zip(pool_indices, known.tolist(), strict=True)
    ]


def overlay_of(page: ProjectPage) -> Overlay | None:
    """Return how a project's answers are drawn; None where they are of the whole image."""
    return OVERLAYS[page.problem.overlay] if page.problem.overlay is not None else None


def class_names(page: ProjectPage) -> list[str]:
    """Return the classes in the order of their colours: those of the configuration, then what the model has besides."""
    configured = page.status.labeling.classes if page.status.labeling is not None else ()
    return list(dict.fromkeys([*configured, *(page.model.classes or () if page.model else ())]))


def queued(page: ProjectPage, images: Sequence[QueuedImage]) -> dict[int, tuple[Picture, Layer]]:
    """Return picture and overlay of queued images by task; none where answers are of the whole image."""
    overlay = overlay_of(page)
    if overlay is None:
        return {}
    shown = pictures(page, [image.pool_index for image in images])
    fits, classes = page.problem.fits, class_names(page)
    return {
        image.task_id: (
            picture,
            overlay.layer(image.prediction, picture.size)
            if image.prediction is not None and fits(image.prediction, classes)
            else Layer(),
        )
        for image, picture in zip(images, shown, strict=True)
    }


def colours(page: ProjectPage) -> list[tuple[str, str]]:
    """Return the classes of a project, each with the colour in which it is drawn; none where colour means nothing."""
    overlay = overlay_of(page)
    return overlay.colours(class_names(page)) if overlay is not None else []


def palette(page: ProjectPage) -> str:
    """Return a digest of which class has which colour."""
    return hashlib.sha256("\n".join(class_names(page)).encode()).hexdigest()[:8]


def answer(page: ProjectPage, whose: str, pool_index: int) -> Target | None:
    """Return an answer for an image of the holdout or of the queue, None where there is none; see ``routes.mask``."""
    if whose == "asked":
        live, dashboard = page.status.live, page.services.store.of(page.project.id).dashboard
        asked = dashboard.asked_prediction(live.number, pool_index) if live is not None else None
        return asked if asked is not None and page.problem.fits(asked, class_names(page)) else None
    held = page.held
    if held is None or pool_index not in held.held:
        return None
    row = int(np.flatnonzero(held.held == pool_index)[0])
    return held.targets[row] if whose == "annotators" else held.predict(held.held[row : row + 1])[0]
