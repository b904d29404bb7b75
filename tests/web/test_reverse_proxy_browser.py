"""The pages in a real Chromium behind a reverse proxy that gives them one path of its host."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from support.reverse_proxy import reverse_proxy
from support.web_pages import connect_project, fill
from werkzeug.serving import make_server

from backend.config import Settings
from backend.web.app import create_app
from scripts.chromium import BINARY, Chromium, started

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="there is no Chromium here")]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with started(tmp_path / "chromium", width=1200, height=6000) as chromium:
        yield chromium


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[tuple[Flask, str]]:
    """Serve project 3."""
    app = create_app(Settings(data_dir=folder, redis_url=f"unix://{folder}/none.sock", **settings))
    store = app.extensions["pt4al"].store
    if store.projects.find(3) is None:
        fill(store, connect_project(store), folder)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield app, f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.close()


@pytest.mark.parametrize(
    ("settings", "headers", "strips"),
    [
        ({}, {"X-Forwarded-Prefix": "/pt4al"}, True),
        ({}, {"X-Forwarded-Prefix": "/pt4al"}, False),
        ({"dashboard_url": "https://elsewhere/pt4al"}, {}, True),
        ({"dashboard_url": "https://elsewhere/pt4al/"}, {}, False),
    ],
)
def test_everything_stays_below_the_path(tmp_path: Path, browser: Chromium, settings, headers, strips: bool) -> None:
    with (
        served(tmp_path, **settings) as (app, inner),
        reverse_proxy(inner, "/pt4al", strips=strips, headers=headers) as proxy,
    ):
        store = app.extensions["pt4al"].store
        key = store.projects.find(3).id
        browser.open(proxy.url)
        browser.click("a", "Project 3")
        browser.wait("the project's page", "() => location.pathname === '/pt4al/projects/3'")
        browser.wait("six figures", "() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= 6")
        assert browser.run("() => getComputedStyle(document.body).margin") == "0px"  # our stylesheet is there
        # The map's preview has no picture before one of its points is pointed at.
        shown = "[...document.images].filter((i) => i.getAttribute('src'))"
        pictures = f"() => {shown}.every((i) => i.complete && i.naturalWidth > 0) && {shown}.length"
        assert browser.wait("the queue's pictures", pictures) >= 2
        # A download, as the link has it.
        saved = "() => fetch([...document.links].find((a) => a.href.includes('losses.csv')).href).then((r) => r.text())"
        assert browser.run(saved).startswith("task,image,pretext_loss")
        # The page follows by itself, a form leads back, and so does one with a field.
        store.projects.set(key, error="the token is refused")
        browser.see("The token is refused")
        store.projects.set(key, error=None)
        browser.run("() => { window.before = true; }")
        browser.click("#retry-images")
        browser.wait("the page again", "() => window.before === undefined && document.readyState === 'complete'")
        assert browser.run("() => location.pathname") == "/pt4al/projects/3"
        browser.run("() => { document.getElementById('use-model-confidence').value = '50'; }")
        browser.click("#use-model-see")
        browser.wait("the other page", "() => location.pathname === '/pt4al/projects/3/final'")
        browser.click("#write")
        browser.wait("the order", "() => document.getElementById('order-state').innerText.includes('pt4al-final')")
        assert browser.run("() => location.pathname") == "/pt4al/projects/3/final"
        assert store.of(key).autolabel.get() is not None
        browser.click("a", "Active learning")
        browser.wait("the list", "() => location.pathname === '/pt4al/projects'")
        browser.open(f"{proxy.url}/projects/99")
        browser.click("a", "All projects")
        browser.wait("the list", "() => location.pathname === '/pt4al/projects'")
        assert [path for path in proxy.outside if path != "/favicon.ico"] == []
        assert browser.console == []
