"""The project page in a real Chromium: figures are drawn under our policy, and the page follows what happens."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from scripts.chromium import BINARY, Chromium, started

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="there is no Chromium here")]


@pytest.fixture
def server(pages) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, pages, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with started(tmp_path / "chromium", width=1200, height=6000) as chromium:
        yield chromium


def test_every_figure_is_drawn(server: str, filled: Store, browser: Chromium) -> None:
    browser.open(f"{server}/projects/3")
    browser.wait("six figures", "() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= 6")
    browser.wait("no placeholder", "() => document.querySelector('.waiting') === null")
    points = browser.run("() => document.querySelectorAll('.point').length")
    assert points > 12  # the map's images, the curve's and the diagram's points
    assert "not measured" not in browser.text()
    assert browser.console == []


def test_the_page_follows_a_new_answer_by_itself(server: str, filled: Store, browser: Chromium) -> None:
    key = filled.projects.find(3).id
    queue = "() => [...document.querySelectorAll('[id^=task-]')].map((e) => e.id)"
    browser.open(f"{server}/projects/3")
    assert browser.run(queue) == ["task-9", "task-10"]
    filled.tasks.apply(key, [TaskChange(9, "x", None, Answer.LABELED, "cat")])
    browser.wait("the queue without task 9", f"() => JSON.stringify(({queue})()) === '[\"task-10\"]'")
    browser.wait("8 labels", "() => /8\\s+of 12 images/.test(document.body.innerText)")
