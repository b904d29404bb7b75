"""What the subjects of the store have in common."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

Transaction = Callable[[], AbstractContextManager[Session]]

IN_LIMIT = 500  # bound parameters in one IN (...): SQLite's oldest limit is 999


class Repository:
    """A subject of the store; every public method is one transaction."""

    def __init__(self, read: Transaction, write: Transaction) -> None:
        """Take the ways to begin a transaction."""
        self._read = read
        self._write = write
