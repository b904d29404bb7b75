"""Copying SQLite into PostgreSQL: every row arrives, whatever interrupts it, and nothing else is overwritten."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select, text
from store.conftest import connect
from store.test_schema import check_schema, check_work_goes_on, make_old
from support.postgres import Postgres

from backend.__main__ import main
from backend.errors import ConfigError
from backend.file_locks import wait_for_lock
from backend.store import Answer, AskRole, Store, copying
from backend.store.copying import TABLES, content, copy_database
from backend.store.engine import open_engine
from backend.store.rounds import Ask
from backend.store.tables import TaskRow
from backend.store.tasks import TaskChange

TASKS = 23


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A SQLite of an older release with rows in every table, and more of what may be odd."""
    url = f"sqlite:///{tmp_path / 'pt4al.sqlite3'}"
    make_old(url, "0006")
    store = Store(url, tmp_path)
    project = store.of(connect(store, studio_project_id=9, extra_params={"control": "Käse 🐈"}).id)
    project.tasks.apply([TaskChange(i, f"{i}.png", None, Answer.NONE, None) for i in range(1, TASKS)])
    project.tasks.images_fetched({i: i - 1 for i in range(1, TASKS)})
    project.tasks.set_losses({i - 1: 1 / i for i in range(1, TASKS)} | {3: float("inf")})
    project.tasks.apply([TaskChange(2, "a\0.png", None, Answer.LABELED, ["cat", "a\0b '%s\\"])])
    project.rounds.plan(0, "r0", [Ask(i, 1 / i, AskRole.QUERY, ["cat"], 0.1) for i in range(1, TASKS)])
    project.rounds.set(0, learner={"learner": "linear", "of": [1, None, 0.1]}, classes=None)
    assert project.jobs.start("Pretext") is not None
    assert project.jobs.start("a") is not None
    store.close()
    return url


@pytest.fixture
def target(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield postgres.url(name)


def contents(url: str) -> dict[str, Any]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = {table.name: content(connection, table) for table in TABLES}
    engine.dispose()
    return found


def test_every_row_arrives_and_the_work_goes_on(source: str, target: str, tmp_path: Path) -> None:
    said: list[str] = []
    copy_database(source, target, said.append)
    assert contents(target) == contents(source)
    assert {line.split(":")[0] for line in said if line.endswith("the same in both")} == {one.name for one in TABLES}
    store = Store(target, tmp_path)
    check_schema(store)
    check_tasks_and_asks_of_the_first(store)
    assert store.projects.webhook_secret(store.projects.get(2)) is not None, "the key is that of the data folder"
    assert store.projects.get(2).extra_params == {"control": "Käse 🐈"}
    assert store.of(2).tasks.targets() == [(1, ["cat", "a\0b '%s\\"], False)]
    assert store.of(2).tasks.pool(TASKS).loss[3] == float("inf")
    assert store.of(2).rounds.get(0).learner == {"learner": "linear", "of": [1, None, 0.1]}
    assert connect(store, studio_project_id=10).id == 3, "the next project gets the next number"
    check_work_goes_on(store)
    store.close()


def check_tasks_and_asks_of_the_first(store: Store) -> None:
    with store.read() as session:
        rows = session.scalars(select(TaskRow).where(TaskRow.project_id == 1).order_by(TaskRow.task_id)).all()
    assert [row.target for row in rows[:4]] == ["cat", '"cat"', "Käse 'süß' 🐈\\n", ""]


@pytest.mark.parametrize("writes", [0, 1, 4, 9, 14])
def test_an_interrupted_copy_goes_on_where_it_was(
    source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    monkeypatch.setattr(copying, "PART", 5)
    left = writes

    def tell(line: str) -> None:
        nonlocal left
        if left == 0 and line.endswith("copied"):
            raise KeyboardInterrupt
        left -= 1

    with pytest.raises(KeyboardInterrupt):
        copy_database(source, target, tell)
    before = contents(target)
    with pytest.raises(ConfigError, match=r"not copied to its end: run 'python -m backend copy-database' once more"):
        Store(target, tmp_path)
    said: list[str] = []
    copy_database(source, target, said.append)
    assert contents(target) == contents(source)
    # The table of jobs, whose key is a text, is copied as a whole.
    there = sum(one.rows for name, one in before.items() if name != "job")
    assert sum(lines_copied(said).values()) == sum(one.rows for one in contents(source).values()) - there


def lines_copied(said: list[str]) -> dict[str, int]:
    """Return the rows that were copied, by table."""
    copied = [line.split() for line in said if line.endswith("rows copied")]
    return {name.rstrip(":"): int(number) for name, number, *_ in copied}


def test_a_source_that_changed_since_the_copy_was_interrupted_is_copied_again(
    source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(line: str) -> None:
        if line.startswith("task:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_database(source, target, stop)
    store = Store(source, tmp_path)
    store.of(2).tasks.apply([TaskChange(7, "7.png", None, Answer.LABELED, ["dog"])])
    store.close()
    said: list[str] = []
    copy_database(source, target, said.append)
    assert [line for line in said if "changed since" in line] == [
        "ask, task changed since the copy began: all is copied again"
    ]
    assert contents(target) == contents(source)


def test_a_copy_that_is_whole_is_only_compared(source: str, target: str) -> None:
    copy_database(source, target, lambda _: None)
    said: list[str] = []
    copy_database(source, target, said.append)
    assert lines_copied(said) == {}
    assert len(said) == len(TABLES)


def test_rows_of_others_are_never_overwritten(source: str, target: str, tmp_path: Path) -> None:
    store = Store(target, tmp_path)
    store.close()
    copy_database(source, target, lambda _: None)  # tables alone are no hindrance
    store = Store(target, tmp_path)
    store.projects.set(1, title="worked on since")
    store.close()
    before = contents(target)
    with pytest.raises(ConfigError, match=r"has other rows already \(2 of project, .*: give an empty one"):
        copy_database(source, target, lambda _: None)
    assert contents(target) == before


def test_a_value_that_does_not_arrive_as_it_was_is_found(source: str, target: str, tmp_path: Path) -> None:
    Store(target, tmp_path).close()
    engine = open_engine(target)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION worse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN IF NEW.task_id = 9 THEN NEW.loss = round(NEW.loss::numeric, 6); END IF; RETURN NEW; END $$"
            )
        )
        connection.execute(text("CREATE TRIGGER worse BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION worse()"))
    engine.dispose()
    with pytest.raises(ConfigError, match=r"differs from the source in task: task: 28 rows, .* against 28 rows"):
        copy_database(source, target, lambda _: None)
    with pytest.raises(ConfigError, match="not copied to its end"):
        Store(target, tmp_path)


@pytest.mark.parametrize("whose", ["Label Studio's", "another program's"])
def test_the_database_of_another_program_stays_as_it_is(
    source: str, postgres: Postgres, tmp_path: Path, whose: str
) -> None:
    with postgres.database() as name:
        for table in ("project", "task", *(["django_migrations"] if whose.startswith("Label") else [])):
            postgres.run(f"CREATE TABLE {table} (id integer)", name)
        url = postgres.url(name)
        with pytest.raises(ConfigError, match=f"the database is {whose}: make one of its own"):
            copy_database(source, url, lambda _: None)
        with pytest.raises(ConfigError, match=f"the database is {whose}: make one of its own"):
            Store(url, tmp_path)
        engine = open_engine(url)
        tables = set(inspect(engine).get_table_names())
        engine.dispose()
    assert {"project", "task"} <= tables <= {"project", "task", "django_migrations"}


def test_the_way_back_is_the_same_command(source: str, target: str, tmp_path: Path) -> None:
    copy_database(source, target, lambda _: None)
    back = f"sqlite:///{tmp_path / 'back.sqlite3'}"
    copy_database(target, back, lambda _: None)
    assert contents(back) == contents(source)


def test_the_command_says_what_it_needs_and_what_it_did(
    source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backend.__main__.os.umask", lambda _: 0)  # of all tests after this one
    monkeypatch.setattr("backend.logs.configure", lambda *_: None)
    command = ["copy-database", "--data-dir", str(tmp_path)]
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(command) == 2
    assert "DATABASE_URL: set it to the database to copy into" in capsys.readouterr().err

    monkeypatch.setenv("DATABASE_URL", target)
    with wait_for_lock(tmp_path / "serve.lock"):
        assert main(command) == 2
    assert "another 'serve' runs on" in capsys.readouterr().err

    assert main([*command, "--from", f"sqlite:///{tmp_path / 'nothing.sqlite3'}"]) == 2
    assert "there is no database" in capsys.readouterr().err
    assert not (tmp_path / "nothing.sqlite3").exists()

    assert main(command) == 0
    said = capsys.readouterr().out
    assert "task: 28 rows" in said
    assert "Everything is there." in said
