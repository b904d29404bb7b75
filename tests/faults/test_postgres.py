"""Label Studio and the backend on PostgreSQL: three rounds, and what its row locks do to the order of a queue."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from faults.scenario import IMAGES, PARAMS, PATIENCE_S, K
from sqlalchemy import select
from support.e2e_harness import Backend, LabelingProject
from support.labelstudio import LabelStudioServer, free_port, start_label_studio
from support.postgres import PASSWORD, USER, Postgres

from backend.store import Answer, TaskRow
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Postgres:
    """PostgreSQL for both programs."""
    return postgres


@pytest.fixture(scope="module")
def label_studio(databases: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A server on PostgreSQL, in the place of the one on SQLite."""
    folder = tmp_path_factory.mktemp("label-studio")
    server = start_label_studio(free_port(), folder, **databases.label_studio(folder))
    yield server
    server.stop()


@pytest.fixture
def theirs(label_studio: LabelStudioServer) -> str:
    """The name of Label Studio's database."""
    return label_studio.env["POSTGRE_NAME"]


@pytest.fixture
def backend(make_backend: Callable[..., Backend]) -> Backend:
    """A backend on PostgreSQL."""
    return make_backend()


@pytest.fixture
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


def test_three_rounds_are_served_in_order_and_no_answer_is_lost(
    make_project: Callable[..., LabelingProject], backend: Backend, studio: LabelStudio, postgres: Postgres,
    theirs: str, figures,
) -> None:  # fmt: skip
    project = make_project(IMAGES, **PARAMS)
    given: dict[int, str] = {}
    passed_over = 0
    for number in range(PARAMS["rounds"]):
        queue = backend.wait_round(project.id, number, PATIENCE_S)["queue"]["task_ids"]
        if number == 0:
            backend.wait(project.id, "recording", lambda s: s["stage"] == "labeling", PATIENCE_S)
            a_task_that_is_being_written_is_passed_over(project, queue, postgres, theirs)
        served = []
        for _ in queue:
            task = project.annotator.next_task(project.id)
            assert task is not None
            given[task.id] = project.label_of(task.data)
            project.annotator.annotate(task.id, project.result(given[task.id]))
            served.append(task.id)
        assert set(served) == set(queue), "nothing but the queue"
        passed_over += sum(one != other for one, other in zip(served, queue, strict=True))
    status = backend.wait_round(project.id, PARAMS["rounds"], PATIENCE_S)
    assert [one["labels"] for one in status["history"]][:3] == [K, 2 * K, 3 * K]

    deadline = time.monotonic() + 60
    while answers(backend) != given and time.monotonic() < deadline:
        time.sleep(1)
    assert answers(backend) == given
    handle = studio.project(project.id)
    stored = [(one.task, name) for name in handle.predictions.versions() for one in handle.predictions.stored(name)]
    assert len(stored) == len(set(stored)), "no task has two predictions of one version"
    assert not (backend.data_dir / "pt4al.sqlite3").exists()
    figures(answers=len(given), out_of_order=passed_over)


def a_task_that_is_being_written_is_passed_over(
    project: LabelingProject, queue: list[int], postgres: Postgres, theirs: str
) -> None:
    """Label Studio asks for the row of a task with SKIP LOCKED, which SQLite does not have."""
    dsn = f"host=127.0.0.1 port={postgres.port} user={USER} password={PASSWORD} dbname={theirs}"
    with psycopg.connect(dsn) as writer:
        writer.execute("SELECT id FROM task WHERE id = %s FOR KEY SHARE", [queue[0]])  # as an insert of a prediction
        other = project.annotator.next_task(project.id)
    assert other is not None
    assert other.id == queue[1]
    release(project, other.id, postgres, theirs)
    first = project.annotator.next_task(project.id)
    assert first is not None
    assert first.id == queue[0]
    release(project, first.id, postgres, theirs)


def release(project: LabelingProject, task: int, postgres: Postgres, theirs: str) -> None:
    """Take away the annotator's own lock on a task that was served."""
    postgres.run(f"DELETE FROM tasks_tasklock WHERE task_id = {task}", theirs)


def answers(backend: Backend) -> dict[int, str]:
    store = backend.store()
    try:
        with store.read() as session:
            rows = session.execute(select(TaskRow.task_id, TaskRow.target).where(TaskRow.answer == Answer.LABELED))
            return {task: str(target) for task, target in rows}
    finally:
        store.close()
