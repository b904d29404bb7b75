import json
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, select, text

from backend.errors import ConfigError
from backend.store import Answer, Store, schema
from backend.store.engine import open_engine
from backend.store.tables import AskRow, Base, RoundRow, TaskCountsRow, TaskRow
from backend.store.tasks import TaskChange

VERSIONS = [f"{number:04}" for number in range(1, int(schema.NEWEST))]
LABELS = {1: "cat", 2: '"cat"', 3: "Käse 'süß' 🐈\\n", 4: ""}  # the JSON of the first is the text of the second
PROJECT = {
    **{"id": 1, "studio_id": 7, "created_ts": "1", "server": "http://studio", "webhook_secret": "x"},
    **{"label_config": "<View/>", "extra_params": {"k": 20}, "active": True, "connected_at": 0.0},
    **{"pretext_images": 0, "training_requested": False, "tab_id": 5, "tab_version": "old"},
    **{"cursor": "2026-01-01T00:00:00Z", "image_side": 32, "pretext_key": "abc", "split_key": "interleaved/10"},
}
PREDICTIONS = [  # task, label, confidence, quality
    *((1, "cat", 0.75, 1.0), (2, "cat", 0.5, 0.0), (3, LABELS[3], 0.5, 1.0), (5, "dog", 0.5, None)),
    (6, '"cat"', 0.5, None),
]
ROUND = {"project_id": 1, "model_version": "v", "state": "closed", "asked": 3, "cleaned": False, "seconds": {}}
TALLY = {
    **{"project_id": 1, "tasks": 6, "new": 0, "ok": 6, "broken": 0, "answered": 5, "labeled": 4},
    **{"trainable": 3, "available": 1, "askable": 0, "unscored": 6, "unsplit": 0, "unrecorded": 0},
}
ORDER = {
    **{"project_id": 1, "round": 1, "confidence": 0.9, "temperature": 1.5, "ordered_at": 3.0},
    **{"written_at": 4.0, "images": 12, "errors": 0.5},
}


def make_old(url: str, version: str = schema.FIRST, *, noted: bool = True) -> None:
    """Fill a database of an older version: labels, asks, measured rounds, a failed job, an order and counts."""
    engine = open_engine(url)
    with engine.begin() as connection:
        schema.migrate(connection, version)
        fill(connection)
        if not noted:
            connection.execute(text("DROP TABLE alembic_version"))
    engine.dispose()


def fill(connection: Connection) -> None:
    """Write rows into the tables and columns that this version has."""
    tables = MetaData()
    tables.reflect(connection)

    def insert(table: str, **values: Any) -> None:
        if table in tables.tables:
            known = {name: value for name, value in values.items() if name in tables.tables[table].columns}
            connection.execute(tables.tables[table].insert().values(**known))

    def as_json(label: str | None) -> str | None:
        return None if label is None else json.dumps(label, ensure_ascii=False)

    insert("project", **PROJECT)
    task = {"project_id": 1, "image": "x", "state": "ok", "attempts": 0, "retry_at": None}
    for number, label in LABELS.items():
        texts = {"label": label, "target": as_json(label)}  # before 0007, and since
        insert("task", **task, **texts, task_id=number, pool_index=number, answer="labeled", holdout=number == 4)
    insert("task", **task, task_id=5, pool_index=5, answer="none", holdout=False)
    insert("task", **task, task_id=6, pool_index=6, answer="skipped", holdout=False)
    measured = {"has_model": True, "classes": ["cat", "dog"], "labels": 3, "holdout_size": 10, "agreement": 0.5}
    insert("round", **ROUND, number=0, has_model=False)
    sums = {"holdout_quality": 8.0, "holdout_squares": 8.0}
    insert("round", **ROUND, number=1, **measured, **sums, holdout_correct=8)
    sums = {"holdout_quality": 7.0, "holdout_squares": 7.0, "holdout_change": -1.0, "holdout_change_squares": 3.0}
    insert("round", **ROUND, number=2, **measured, **sums, holdout_correct=7, holdout_gained=1, holdout_lost=2)
    ask = {"project_id": 1, "score": 0.5, "role": "query", "state": "posted"}
    insert("ask", **ask, round=0, rank=0, task_id=1)
    for rank, (task_id, label, confidence, quality) in enumerate(PREDICTIONS):
        texts = {"label": label, "prediction": as_json(label), "quality": quality}
        insert("ask", **ask, **texts, round=1, rank=rank, task_id=task_id, confidence=confidence)
    job = {"project_id": 1, "token": "t", "state": "failed", "progress": 0.25, "queued_at": 1.0, "heartbeat_at": 2.0}
    insert(
        "job", **job, kind="autolabel" if "autolabel_order" in tables.tables else "final", failures=3, error="no room"
    )
    insert("job", **job, kind="sync", failures=1, error="502")
    for name in ("final", "autolabel_order"):
        insert(name, **ORDER)
    for name in ("tally", "task_counts"):
        insert(name, **TALLY)


# On PostgreSQL the first and the last: the first one runs all migrations.
@pytest.mark.parametrize(
    ("url", "version"),
    [
        *(("sqlite", version) for version in VERSIONS),
        *(("postgresql", version) for version in (VERSIONS[0], VERSIONS[-1])),
    ],
    indirect=["url"],
)
def test_a_database_of_any_older_version_is_migrated_with_all_it_holds(url: str, tmp_path: Path, version: str) -> None:
    make_old(url, version)
    store = Store(url, tmp_path)
    check_tasks_and_asks(store)
    check_rounds(store, compared=version >= "0003")
    check_other_tables(store, version)
    check_schema(store)
    check_work_goes_on(store)
    counts = store.of(1).tasks.counts(0.0)
    store.close()
    store = Store(url, tmp_path)
    assert store.of(1).tasks.counts(0.0) == counts, "it opens again"
    store.close()


def test_models_that_were_only_noted_as_exported_are_exported(url: str, tmp_path: Path) -> None:
    """Before 0012, nothing was written of models of boxes and masks."""
    make_old(url, "0011")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE round SET exported = true"))
        connection.execute(text("UPDATE round SET problem = 'detection' WHERE number = 2"))
    engine.dispose()
    store = Store(url, tmp_path)
    assert [row.exported for row in store.of(1).rounds.all()] == [True, True, False]
    store.close()


def test_answers_of_boxes_are_read_once_more_to_count_what_they_leave_out(url: str, tmp_path: Path) -> None:
    make_old(url, "0012")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE project SET control = 'kind'"))
        connection.execute(text("UPDATE round SET problem = 'detection' WHERE number = 2"))
    engine.dispose()
    store = Store(url, tmp_path)
    assert store.of(1).row().control == ""
    assert store.of(1).dashboard.left_out() == (0, 0)
    store.close()


def check_tasks_and_asks(store: Store) -> None:
    with store.read() as session:
        tasks = {row.task_id: row for row in session.scalars(select(TaskRow))}
        asks = {(row.round, row.task_id): row for row in session.scalars(select(AskRow))}
        texts = dict(session.execute(text("SELECT task_id, target FROM task")).all())
    assert {number: row.target for number, row in tasks.items()} == {**LABELS, 5: None, 6: None}
    assert texts == {1: '"cat"', 2: '"\\"cat\\""', 3: "\"Käse 'süß' 🐈\\\\n\"", 4: '""', 5: None, 6: None}
    assert [tasks[number].holdout for number in (3, 4)] == [False, True]
    assert [tasks[number].pool_index for number in tasks] == list(tasks)
    assert {key: (row.prediction, row.confidence, row.quality) for key, row in asks.items()} == {
        (0, 1): (None, None, None),
        (1, 1): ("cat", 0.75, 1.0),
        (1, 2): ("cat", 0.5, 0.0),
        (1, 3): (LABELS[3], 0.5, 1.0),
        (1, 5): ("dog", 0.5, None),  # without an answer
        (1, 6): ('"cat"', 0.5, None),  # skipped
    }


def check_rounds(store: Store, *, compared: bool) -> None:
    sums = [
        (row.holdout_size, row.holdout_quality, row.holdout_squares, row.holdout_change, row.holdout_change_squares)
        for row in store.of(1).rounds.all()
    ]
    changes = (-1.0, 3.0) if compared else (None, None)
    assert sums == [(None,) * 5, (10, 8.0, 8.0, None, None), (10, 7.0, 7.0, *changes)]
    assert {(row.problem, row.decoding) for row in store.of(1).rounds.all()} == {("single_label", None)}
    assert [row.classes for row in store.of(1).rounds.all()] == [None, ["cat", "dog"], ["cat", "dog"]]
    assert [row.learner for row in store.of(1).rounds.all()] == [None] * 3


def check_other_tables(store: Store, version: str) -> None:
    project = store.projects.find(7)
    assert project is not None
    assert (project.id, project.server, project.extra_params) == (1, "http://studio", {"k": 20})
    assert project.cursor == (None if version < "0007" else PROJECT["cursor"]), "all answers are read again"
    assert (project.image_side, project.pretext_key, project.split_key) == (32, "abc", "interleaved/10")
    assert (project.encoder_side, project.features_key, project.fetching_since) == (None, None, None)
    jobs = [(job.kind, job.state, job.failures, job.error) for job in store.of(1).jobs.all()]
    assert jobs == [("autolabel", "failed", 3, "no room"), ("sync", "failed", 1, "502")]
    order = store.of(1).autolabel.get()
    if version < "0003":
        assert order is None
    else:
        assert {name: getattr(order, name) for name in ORDER} == ORDER
    with store.read() as session:
        counts = session.get(TaskCountsRow, 1)
    if version < "0002":
        assert counts is None
    else:
        assert {name: getattr(counts, name) for name in TALLY} == TALLY


def check_schema(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        indices = {index["name"]: index for index in inspect(connection).get_indexes("task")}
        tables = set(inspect(connection).get_table_names())
    where = f"{store.engine.dialect.name}_where"
    partial = {name for name, index in indices.items() if where in index.get("dialect_options", {})}
    assert partial == {"task_by_retry_at", "task_unrecorded"}
    assert indices["task_by_pool_index"]["unique"]
    assert tables == {*Base.metadata.tables, "alembic_version"}


def check_work_goes_on(store: Store) -> None:
    project = store.of(1)
    assert project.tasks.counts(0.0).available == 1
    project.tasks.apply([TaskChange(5, "x", None, Answer.LABELED, "dog")])
    counts = project.tasks.counts(0.0)
    assert (counts.tasks, counts.labeled, counts.trainable, counts.available) == (6, 5, 4, 0)
    assert [(row.predicted, row.quality) for row in project.dashboard.asked_qualities()] == [(4, 3.0)]
    project.autolabel.order(number=2, confidence=0.8, temperature=1.0, images=20, errors=2.5)
    order = project.autolabel.get()
    assert order is not None
    assert (order.round, order.written_at) == (2, None)
    project.jobs.retry_now()
    assert project.jobs.start("autolabel") is not None
    project.rounds.set(2, decoding={"threshold": 0.5}, problem="multi_label", learner={"learner": "linear"})
    with store.read() as session:
        assert session.get_one(RoundRow, (1, 2)).decoding == {"threshold": 0.5}
        assert session.get_one(RoundRow, (1, 2)).learner == {"learner": "linear"}
    project.set(encoder_side=128, features_key="efficientnet_lite0-128", fetching_since=1.5)
    row = project.row()
    assert (row.encoder_side, row.features_key, row.fetching_since) == (128, "efficientnet_lite0-128", 1.5)


def test_a_database_without_a_noted_version_is_of_the_first(url: str, tmp_path: Path) -> None:
    make_old(url, noted=False)
    store = Store(url, tmp_path)
    check_tasks_and_asks(store)
    check_schema(store)
    store.close()


def test_more_labels_than_one_statement_converts_are_all_converted(url: str, tmp_path: Path) -> None:
    make_old(url, "0006")
    engine = open_engine(url)
    labels = {number: ("class " + '"' * (number % 4) + str(number)) for number in range(10, 260)}
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO task (project_id, task_id, state, attempts, answer, label, holdout) "
                "VALUES (1, :task, 'ok', 0, 'labeled', :label, FALSE)"
            ),
            [{"task": number, "label": label} for number, label in labels.items()],
        )
    engine.dispose()
    store = Store(url, tmp_path)
    with store.read() as session:
        targets = dict(session.execute(select(TaskRow.task_id, TaskRow.target)).all())
    assert targets == {**LABELS, 5: None, 6: None, **labels}
    store.close()


def test_the_newest_migration_is_that_of_this_release() -> None:
    scripts = ScriptDirectory(str(Path(schema.__file__).with_name("migrations")))
    assert scripts.get_current_head() == schema.NEWEST
    assert sorted([*VERSIONS, schema.NEWEST]) == sorted(script.revision for script in scripts.walk_revisions())


def test_a_new_database_has_the_newest_version(store: Store) -> None:
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == schema.NEWEST
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_a_database_of_a_newer_release_is_refused(url: str, tmp_path: Path) -> None:
    Store(url, tmp_path).close()
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="newer release"):
        Store(url, tmp_path)


@pytest.mark.parametrize("step", ["batch_alter_table", "rename_table"])
def test_a_migration_that_fails_leaves_the_old_database(url: str, tmp_path: Path, monkeypatch, step: str) -> None:
    make_old(url)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(f"alembic.operations.Operations.{step}", fail)
        with pytest.raises(RuntimeError, match="power"):
            Store(url, tmp_path)
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == schema.FIRST
        assert "tally" not in inspect(connection).get_table_names()
        assert connection.scalar(text("SELECT label FROM task WHERE task_id = 1")) == "cat"
    engine.dispose()
    store = Store(url, tmp_path)
    check_tasks_and_asks(store)
    store.close()
