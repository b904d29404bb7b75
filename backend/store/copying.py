"""Copying a database into another one: whole or resumed, and compared row by row at the end.

While rows are missing, the target has a table that says so, and no process opens it (``schema``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Integer,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError

from backend.errors import ConfigError
from backend.store.engine import BEGIN, SQLITE, is_postgres, open_engine, reason, take_turn
from backend.store.schema import UNFINISHED, bring_up_to_date
from backend.store.tables import Base, InstallationRow, ProjectRow, canonical_json
from backend.store.texts import without_nul

PART = 5_000  # rows written in one transaction
# Those that others refer to come first. Whose database it is, it notes by itself.
TABLES: tuple[Table, ...] = tuple(
    table for table in Base.metadata.sorted_tables if table.name != InstallationRow.__tablename__
)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Content:
    """What a table holds, in whatever order: the number of rows, and the sum of their SHA-256."""

    rows: int
    digest: int

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {self.digest:064x}"


def copy_database(source_url: str, target_url: str, tell: Tell) -> None:
    """Copy all rows, and compare both databases; ``tell`` is given a line for each table and each pause.

    An interrupted copy goes on where it was. Where the target has everything already, it is only compared.

    Raises:
        ConfigError: a database cannot be opened, the target has other rows, or the copy differs.
    """
    source, target = open_engine(source_url), open_engine(target_url)
    try:
        _check_is_there(source.url)
        if source.url == target.url:
            raise ConfigError("the database to copy from and DATABASE_URL are the same")
        # Nobody may write into the source meanwhile.
        with source.connect().execution_options(**{BEGIN: "BEGIN IMMEDIATE"}) as reading, reading.begin():
            take_turn(reading)
            if "project" not in inspect(reading).get_table_names():
                raise ConfigError(f"{source.url.render_as_string()} has no projects: there is nothing to copy")
            bring_up_to_date(reading)
            _copy(reading, target, tell)
    except DBAPIError as error:
        raise ConfigError(f"the copy stopped ({reason(error)}): run the same command again, and it goes on") from error
    finally:
        source.dispose()
        target.dispose()


def _check_is_there(url: URL) -> None:
    if url.get_backend_name() == SQLITE and not Path(url.database or "").is_file():
        raise ConfigError(f"there is no database {url.database}: name the one to copy with --from")


def _copy(reading: Connection, target: Engine, tell: Tell) -> None:
    present = _claim(target)
    wanted = {table.name: content(reading, table) for table in TABLES}
    for attempt in (1, 2):
        if present is None:
            for table in TABLES:
                _fill(reading, target, table, tell)
        with target.connect() as copied:
            found = {table.name: content(copied, table) for table in TABLES}
        differing = [name for name, one in wanted.items() if found[name] != one]
        if not differing:
            break
        if present is not None:
            raise ConfigError(
                f"DATABASE_URL: the database has other rows already ({_numbers(present)}): give an empty one"
            )
        if attempt == 2:
            raise ConfigError(f"the copy differs from the source in {', '.join(differing)}: {_both(wanted, found)}")
        # The source has changed since a copy was interrupted.
        tell(f"{', '.join(differing)} changed since the copy began: all is copied again")
        _empty(target)
    if present is None:
        _finish(target)
    for name, one in wanted.items():
        tell(f"{name}: {one}, the same in both")


def _claim(target: Engine) -> Mapping[str, int] | None:
    """Make the tables, and note that the copy is not finished; return the numbers of rows if others are there.

    Raises:
        ConfigError: the database is another program's or another release's.
    """
    with target.begin() as connection:
        take_turn(connection)
        if UNFINISHED in inspect(connection).get_table_names():
            return None
        bring_up_to_date(connection)
        numbers = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES}
        if any(numbers.values()):
            return numbers
        connection.execute(text(f"CREATE TABLE {UNFINISHED} (since VARCHAR(1))"))
    return None


def _fill(reading: Connection, target: Engine, table: Table, tell: Tell) -> None:
    """Copy the rows of a table behind those that the target has, part by part in the order of the primary key."""
    keys = list(table.primary_key.columns)
    with target.begin() as connection:
        take_turn(connection)
        if not all(isinstance(key.type, Integer) for key in keys):
            # Databases order texts in different ways. Such tables are small.
            connection.execute(delete(table))
        newest = connection.execute(select(*keys).order_by(*(key.desc() for key in keys)).limit(1)).first()
    last = None if newest is None else tuple(newest)
    copied = 0
    while True:
        query = select(table).order_by(*keys).limit(PART)
        if last is not None:
            query = query.where(tuple_(*keys) > tuple_(*last))
        rows = [_clean(row._mapping) for row in reading.execute(query)]
        if rows:
            with target.begin() as connection:
                take_turn(connection)
                connection.execute(insert(table), rows)
            copied += len(rows)
            last = tuple(rows[-1][key.name] for key in keys)
            tell(f"{table.name}: {copied:,} rows copied")
        if len(rows) < PART:
            return


def _clean(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: without_nul(value) if isinstance(value, str) else value for name, value in row.items()}


def content(connection: Connection, table: Table) -> Content:
    """Return what a table holds."""
    rows = total = 0
    for part in connection.execute(select(table).execution_options(yield_per=PART)).partitions():
        rows += len(part)
        for row in part:
            hashed = sha256(canonical_json(list(_clean(row._mapping).values())).encode("utf-8", "surrogatepass"))
            total += int.from_bytes(hashed.digest())
    return Content(rows, total % 2**256)


def _empty(target: Engine) -> None:
    with target.begin() as connection:
        take_turn(connection)
        for table in reversed(TABLES):
            connection.execute(delete(table))


def _finish(target: Engine) -> None:
    with target.begin() as connection:
        take_turn(connection)
        if is_postgres(connection):
            # The next project gets the next number.
            name, key = ProjectRow.__tablename__, ProjectRow.id.key
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{name}', '{key}'), greatest(max({key}), 1), count(*) > 0) "
                    f"FROM {name}"
                )
            )
            connection.execute(text("ANALYZE"))
        connection.execute(text(f"DROP TABLE {UNFINISHED}"))


def _numbers(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} of {name}" for name, number in numbers.items() if number)


def _both(wanted: Mapping[str, Content], found: Mapping[str, Content]) -> str:
    return "; ".join(f"{name}: {one} against {found[name]}" for name, one in wanted.items() if found[name] != one)
