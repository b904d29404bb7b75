"""Label Studio that is down, slow, failing or lying, seen through a proxy that makes it so."""

import itertools
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.proxy import Proxy
from faults.scenario import IMAGES, PARAMS, UNHARMED, K, damage, finish, label, meanwhile, play
from support.e2e_harness import CONFIG, Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer, free_port

from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


@pytest.fixture(scope="module")
def studio(label_studio: LabelStudioServer) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


@pytest.fixture
def proxy(label_studio: LabelStudioServer) -> Iterator[Proxy]:
    one = Proxy(free_port(), label_studio.url)
    yield one
    one.stop()


MODES = {
    # mode: (seconds on, seconds off, share of the requests)
    "slow": (8.0, 4.0, 1.0),
    "500": (6.0, 6.0, 0.7),
    "429": (6.0, 6.0, 0.7),
    "502": (6.0, 6.0, 1.0),
    "html": (6.0, 6.0, 0.5),
    "drop": (8.0, 8.0, 1.0),
    "drop-answer": (8.0, 4.0, 0.3),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_project_is_completed_whatever_label_studio_answers(
    proxy: Proxy, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject],
    studio: LabelStudio, mode: str, figures,
) -> None:  # fmt: skip
    backend = make_backend(LABEL_STUDIO_URL=proxy.url)
    project = make_project(IMAGES, using=backend, connect=False)
    on, off, share = MODES[mode]
    states = itertools.cycle([{"mode": mode, "share": share, "seconds": 3.0}, {"mode": "pass"}])
    with meanwhile(lambda: bool(proxy.set(**next(states))), itertools.cycle([off, on])):
        project.annotator.connect_backend(project.id, backend.url, PARAMS)
        play(project, backend, studio, rounds=1)
    seen = proxy.set(mode="pass")
    counted = damage(project, backend, studio)
    figures(requests=seen["requests"], faults=seen["faults"], **counted)
    assert counted == UNHARMED
    assert seen["faults"] > 0


def test_a_label_studio_that_hangs_holds_up_no_other_servers_project(
    proxy: Proxy, make_backend: Callable[..., Backend], make_project: Callable[..., LabelingProject], figures,
) -> None:  # fmt: skip
    """Two servers, of which one takes connections and never answers."""
    backend = make_backend(LABEL_STUDIO_URL="")
    ill = make_project(0, using=backend, connect=False)
    well = make_project(30, using=backend, connect=False)
    ill.annotator.connect_backend(ill.id, backend.url, PARAMS)
    backend.wait(ill.id, "the ill project", lambda s: "no tasks" in (s["error"] or ""))
    backend.stop()
    with closing(sqlite3.connect(backend.data_dir / "pt4al.sqlite3")) as store:  # as if connected from another server
        store.execute("update project set server = ? where studio_id = ?", (proxy.url, ill.id))
        store.commit()
    backend.start()
    proxy.set(mode="hang", share=1.0)
    begun = time.monotonic()
    well.annotator.connect_backend(well.id, backend.url, {"rounds": 2, "labels_per_round": 10})
    queue = backend.wait_round(well.id, 0, 240)["queue"]["task_ids"]
    first = time.monotonic() - begun
    waits = []
    for number, task in enumerate(queue[:5]):
        asked = time.monotonic()
        label(well, task)
        backend.wait(well.id, "the answer", lambda s, n=number: s["queue"]["answered"] == n + 1)
        waits.append(time.monotonic() - asked)
    figures(first_queue_s=round(first), slowest_answer_noticed_s=round(max(waits), 1))
    # Each call to the ill server would take a minute if it were waited for.
    assert first < 200
    assert max(waits) < 30


def test_a_bulk_write_in_the_middle_of_which_label_studio_is_killed_is_there_once(
    tmp_path: Path, make_backend: Callable[..., Backend], digits, figures
) -> None:
    server = LabelStudioServer(free_port(), tmp_path / "ls")
    server.start()
    try:
        backend = make_backend(LABEL_STUDIO_URL=server.url)
        annotator = Annotator(server.url, server.email, server.password)
        truth = dict(zip([path.stem for path in digits[0][:IMAGES]], digits[1][:IMAGES], strict=True))
        project = LabelingProject(annotator, backend, truth, "killed", CONFIG)
        annotator.upload_images(project.id, digits[0][:IMAGES])
        annotator.connect_backend(project.id, backend.url, PARAMS)
        studio = LabelStudio(server.url, [NamedToken("test", server.token)])
        kills = 0
        for pause in (6.0, 3.0, 2.0, 1.0):
            time.sleep(pause)
            os.killpg(server._process.pid, signal.SIGKILL)
            server._process.wait()
            kills += 1
            server.start()
        queue = backend.wait_round(project.id, 0, 240)["queue"]["task_ids"]
        for task in queue[: K + 1]:
            label(project, task)
        backend.wait(project.id, "the training", lambda s: s["stage"] == "training" or s["round"] == 1)
        os.killpg(server._process.pid, signal.SIGKILL)
        server._process.wait()
        kills += 1
        server.start()
        backend.wait_round(project.id, 1, 240)
        finish(project, backend, studio, ((), ()))
        wait_for("the error to go", lambda: backend.status(project.id)["error"] is None, 60)
        counted = damage(project, backend, studio)
        figures(kills=kills, **counted)
        assert counted == UNHARMED
    finally:
        server.stop()
