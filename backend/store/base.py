"""What the subjects of the store have in common."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Executable, String
from sqlalchemy.orm import InstrumentedAttribute, Session

Transaction = Callable[[], AbstractContextManager[Session]]

IN_LIMIT = 500  # bound parameters in one IN (...): SQLite's oldest limit is 999


class Repository:
    """Queries over one subject of one project; every public method is one transaction.

    project_id: our own id of the project.
    """

    def __init__(self, read: Transaction, write: Transaction, project_id: int) -> None:
        """Take the ways to begin a transaction, and the project."""
        self.project_id = project_id
        self._read = read
        self._write = write


def scatter(session: Session, query: Executable, lines: int, *arrays: NDArray[Any]) -> None:
    """Put the rows of ``query`` into ``arrays``, ``lines`` at a time: the first column is the place, then their values.

    No value is None; a float's may be, which is NaN.
    """
    # The connection's rows rather than the session's: those cost as much again.
    for part in session.connection().execute(query.execution_options(yield_per=lines)).partitions():
        index, *columns = zip(*part, strict=True)
        places = np.array(index, np.int64)
        for array, values in zip(arrays, columns, strict=True):
            array[places] = np.array(values, array.dtype)


def unindexed(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """Name ``column`` so that SQLite does not walk the whole pool by that column's index.

    It has no statistics: an index that spares a sort looks better to it than one that finds the few rows meant, and of
    two that look alike it takes the one that was made last.
    """
    return column.concat("") if isinstance(column.type, String) else column + 0
