"""The base class and helpers of all queries."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Executable, String
from sqlalchemy.orm import InstrumentedAttribute, Session

Transaction = Callable[[], AbstractContextManager[Session]]

LARGEST = 2**31 - 1  # integer that a column takes in every database; an id in a request may be larger
IN_LIMIT = 500  # bound parameters in one IN (...): SQLite's oldest limit is 999


class Repository:
    """Queries over one subject of one project; every public method is one transaction.

    project_id: of this database, not Label Studio's.
    """

    def __init__(self, read: Transaction, write: Transaction, project_id: int) -> None:
        """Take the functions that begin a transaction, and the project."""
        self.project_id = project_id
        self._read = read
        self._write = write


def scatter(session: Session, query: Executable, lines: int, *arrays: NDArray[Any]) -> None:
    """Write the rows of ``query`` into ``arrays``, ``lines`` at a time: the first column is the index, then the values.

    Only a float may be None, which is NaN.
    """
    # The connection's rows: those of the session take twice the time.
    for part in session.connection().execute(query.execution_options(yield_per=lines)).partitions():
        first, *columns = zip(*part, strict=True)
        indices = np.array(first, np.int64)
        for array, values in zip(arrays, columns, strict=True):
            array[indices] = np.array(values, array.dtype)


def unindexed(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """Return ``column`` as an expression, which disables the index on it.

    SQLite has no statistics here: it prefers an index that saves a sort to one that finds the few rows meant, and of
    two that look alike it takes the one that was created last. Either can read the whole pool.
    """
    return column.concat("") if isinstance(column.type, String) else column + 0
