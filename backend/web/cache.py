"""A cache per process, keyed by name and version, that drops the least recently used values."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from werkzeug.exceptions import NotFound

from backend.project_files import Files
from backend.status.predictions import (
    MODEL_PARTS,
    Compared,
    PoolPredictions,
    asks_for,
    open_predictions,
    predictions_version,
)
from backend.store import ProjectRow, Store
from backend.web.services import Services, services

T = TypeVar("T")

ENTRIES = 64  # for a pool of 50,000 images an entry takes a few MB


class Cache:
    """Holds the newest value of each name. Two threads may compute the same value at the same time."""

    def __init__(self, entries: int = ENTRIES) -> None:
        """Keep at most ``entries`` values."""
        self._entries = entries
        self._values: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: Hashable, version: Hashable, make: Callable[[], T]) -> T:
        """Return the value of ``name`` at ``version``, computed with ``make`` unless it is stored."""
        with self._lock:
            stored = self._values.get(name)
            if stored is not None and stored[0] == version:
                self._values.move_to_end(name)
                value: T = stored[1]
                return value
        value = make()
        with self._lock:
            self._values[name] = (version, value)
            self._values.move_to_end(name)
            while len(self._values) > self._entries:
                self._values.popitem(last=False)
        return value


_caches: WeakKeyDictionary[Store, Cache] = WeakKeyDictionary()


def cache_of(store: Store) -> Cache:
    """Return the cache of values that were read from ``store``."""
    return _caches.setdefault(store, Cache())


def pool_predictions(services: Services, project: ProjectRow) -> PoolPredictions | None:
    """Return what the newest model says of the pool, kept while it stays true; None without a model or its outputs."""
    store, files = services.store.of(project.id), Files.of(services.settings.data_dir, project.id)
    version, cache = predictions_version(store, files), cache_of(services.store)

    def opened() -> PoolPredictions | None:
        # What takes long of the holdout is done once for a model, whatever is answered meanwhile.
        known: Compared = cache.get((project.id, "compared"), version[:MODEL_PARTS], dict)
        return open_predictions(store, files, compared=known)

    return cache.get((project.id, "predictions"), version, opened)


def newest_predictions(project: ProjectRow) -> PoolPredictions:
    """Return what the newest model says of the pool.

    Raises:
        NotFound: there is no model yet of what the project's label configuration asks for.
    """
    predictions = pool_predictions(services(), project)
    if predictions is None:
        raise NotFound("There is no model yet: it is trained after the first round of labels.")
    if not asks_for(project, predictions.problem):
        raise NotFound(
            "The newest model predicts another kind of label than the labeling interface now asks for: the next one, "
            "which is trained after this round, will fit it."
        )
    return predictions
