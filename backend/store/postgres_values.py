"""Values that PostgreSQL refuses, or keeps otherwise than SQLite does, made the same on their way in."""

from typing import Any

from psycopg import Connection
from psycopg.types.numeric import FloatDumper
from psycopg.types.string import StrDumperUnknown

from backend.store.texts import without_nul


class _Float(FloatDumper):
    """NaN is NULL, as in SQLite: to PostgreSQL it is a number above all others."""

    def dump(self, obj: Any) -> Any:
        return None if obj != obj else super().dump(obj)


class _Text(StrDumperUnknown):
    """Texts come from the data of others."""

    def dump(self, obj: str) -> Any:
        return super().dump(without_nul(obj))


def register(connection: "Connection[Any]") -> None:
    """Have a connection convert values in these ways."""
    connection.adapters.register_dumper(float, _Float)
    connection.adapters.register_dumper(str, _Text)
