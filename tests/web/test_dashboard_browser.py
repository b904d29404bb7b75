"""The project page in a real Chromium: figures are drawn under our policy, and the page follows what happens."""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from scripts.chromium import BINARY

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=12000",
    "--dump-dom",
]

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
def dom(tmp_path: Path) -> Callable[[str], str]:
    """Give a page's markup after a dozen seconds of its life."""

    def dump(url: str) -> str:
        command = [str(BINARY), *FLAGS, f"--user-data-dir={tmp_path / 'chromium'}", "--window-size=1200,6000", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return dump


def test_every_figure_is_drawn(server: str, filled: Store, dom) -> None:
    html = dom(f"{server}/projects/3")
    assert html.count("js-plotly-plot") == 6
    assert "not measured" not in html
    assert len(re.findall(r'class="point"', html)) > 12  # the map's images, the curve's and the diagram's points
    assert 'class="waiting"' not in html


def test_the_page_follows_a_new_answer_by_itself(server: str, pages, filled: Store, dom) -> None:
    key = filled.projects.find(3).id
    seen: list[str] = []

    def answer_between(environ, start_response):
        """Label an image after the page was loaded and before it refreshes itself."""
        if environ["PATH_INFO"] == "/projects/3":
            seen.append("page")
            if len(seen) == 2:
                filled.tasks.apply(key, [TaskChange(9, "x", None, Answer.LABELED, "cat")])
        return wsgi(environ, start_response)

    wsgi, pages.wsgi_app = pages.wsgi_app, answer_between
    try:
        html = dom(f"{server}/projects/3")
    finally:
        pages.wsgi_app = wsgi
    assert re.findall(r'id="task-(\d+)"', html) == ["10"]
    assert re.search(r"8\s*<small>of 12 images", html)
