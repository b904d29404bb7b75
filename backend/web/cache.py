"""A per-process LRU cache keyed by name and version."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from werkzeug.exceptions import NotFound

from backend.project_files import Files
from backend.status.predictions import PoolPredictions, open_predictions, predictions_version
from backend.store import ProjectRow, Store
from backend.web.services import services

T = TypeVar("T")

ENTRIES = 64  # of them, those of the pool of 50,000 take a few MB each


class Cache:
    """The newest value of each name, the least recently used ones dropped. Threads may compute one value twice."""

    def __init__(self, entries: int = ENTRIES) -> None:
        """Keep at most ``entries`` values."""
        self._entries = entries
        self._values: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: Hashable, version: Hashable, make: Callable[[], T]) -> T:
        """Give the value of that name and version, making it if it is not there."""
        with self._lock:
            found = self._values.get(name)
            if found is not None and found[0] == version:
                self._values.move_to_end(name)
                value: T = found[1]
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
    """Give the cache of what was read from ``store``."""
    return _caches.setdefault(store, Cache())


def newest_predictions(project: ProjectRow) -> PoolPredictions:
    """Return what the newest model says of the pool, kept while it stays true: a million images take seconds to open.

    Raises:
        NotFound: there is no model yet.
    """
    store, files = services().store.of(project.id), Files.of(services().settings.data_dir, project.id)
    version = predictions_version(store, files)
    cache = cache_of(services().store)
    predictions = cache.get((project.id, "predictions"), version, lambda: open_predictions(store, files))
    if predictions is None:
        raise NotFound("There is no model yet: it is trained after the first round of labels.")
    return predictions
