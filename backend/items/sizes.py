"""The sizes of tasks' images as a browser shows them, for predictions that say where something is."""

from collections.abc import Sequence

import numpy as np

from backend.labeling.base import Item, Labeling
from backend.project_files import Files
from backend.store import ProjectStore
from model.data.views import UNKNOWN_SIZE, ViewBank
from model.errors import BankError
from model.problems import problem


def items_of(store: ProjectStore, files: Files, labeling: Labeling, task_ids: Sequence[int]) -> dict[int, Item]:
    """Return the items of these tasks by id, those whose size is known; none for problems without views."""
    views = views_of(files, labeling)
    if views is None:
        return {}
    places = store.tasks.pool_indices(task_ids)
    known = views.knows(np.array([*places.values()], np.int64))
    tasks = [task for task, is_known in zip(places, known, strict=True) if is_known]
    sizes = views.sizes(np.array([places[task] for task in tasks], np.int64)).tolist()
    return {task: _item(*size) for task, size in zip(tasks, sizes, strict=True)}


def views_of(files: Files, labeling: Labeling) -> ViewBank | None:
    """Return a project's views; None where what it labels needs none, or they are not there."""
    side = problem(labeling.problem).view_side
    try:
        return ViewBank.open(files.views(side)) if side is not None else None
    except BankError:
        return None


def item_at(views: ViewBank | None, pool_index: int) -> Item:
    """Return the item of an image; without a size where that is not known."""
    place = np.array([pool_index])
    if views is None or not views.knows(place)[0]:
        return Item()
    return _item(*views.sizes(place)[0].tolist())


def _item(width: int, height: int) -> Item:
    return Item(width, height) if (width, height) != UNKNOWN_SIZE else Item()
