"""The project page in a real Chromium: figures are drawn under our policy, and the page follows what happens."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.problem_pages import boxes_project
from werkzeug.serving import make_server

from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from scripts.chromium import BINARY, Chromium, started

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="there is no Chromium here")]

LOADED = "(images) => [...document.querySelectorAll(images)].every((i) => i.complete && i.naturalWidth > 0)"
DRAWN = "(figures) => document.querySelectorAll('.js-plotly-plot').length === figures"


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
    browser.wait("six figures", DRAWN, 6)
    browser.wait("no placeholder", "() => document.querySelector('.waiting') === null")
    # The map's images, the curve's and the diagram's points.
    browser.wait("their points", "() => document.querySelectorAll('.point').length > 12")
    assert "not measured" not in browser.text()
    assert browser.console == []


def test_the_page_follows_a_new_answer_by_itself(server: str, filled: Store, browser: Chromium) -> None:
    key = filled.projects.find(3).id
    queue = "() => [...document.querySelectorAll('[id^=task-]')].map((e) => e.id)"
    browser.open(f"{server}/projects/3")
    assert browser.run(queue) == ["task-9", "task-10"]
    filled.of(key).tasks.apply([TaskChange(9, "x", None, Answer.LABELED, "cat")])
    browser.wait("the queue without task 9", f"() => JSON.stringify(({queue})()) === '[\"task-10\"]'")
    browser.wait("8 labels", "() => /8\\s+of 12 images/.test(document.body.innerText)")


def test_a_refresh_takes_away_neither_a_choice_nor_the_focus(server: str, filled: Store, browser: Chromium) -> None:
    key = filled.projects.find(3).id
    chosen = "() => document.getElementById('use-model-confidence').value"
    focused = "() => document.activeElement.textContent.trim()"

    def label(task: int) -> None:
        filled.of(key).tasks.apply([TaskChange(task, "x", None, Answer.LABELED, "cat")])
        browser.wait("the new label", f"() => /{task - 1}\\s+of 12 images/.test(document.body.innerText)")

    browser.open(f"{server}/projects/3")
    browser.run("() => { const s = document.getElementById('use-model-confidence'); s.focus(); s.value = '99'; }")
    filled.of(key).autolabel.order(number=0, confidence=0.5, temperature=1.0, images=2, errors=0.5)
    label(9)
    # Whoever has the field open is left alone; once it is left, the part is exchanged and the choice stays.
    assert browser.run("() => document.activeElement.id") == "use-model-confidence"
    assert browser.run("() => document.getElementById('order')") is None
    browser.run("() => [...document.links].find((a) => a.textContent.startsWith('Predictions')).focus()")
    browser.wait("the order", "() => document.getElementById('order') !== null")
    assert browser.run(chosen) == "99"
    assert browser.run(focused) == "Predictions (CSV)"
    filled.of(key).autolabel.written(filled.of(key).autolabel.get().ordered_at, 2)
    browser.see("predictions stand in Label Studio")
    assert browser.run(focused) == "Predictions (CSV)"
    assert browser.console == []


def test_parts_appear_with_their_content_and_news_are_said(server: str, filled: Store, browser: Chromium) -> None:
    key = filled.projects.find(3).id
    broken = "() => document.getElementById('broken-card').hidden"
    filled.of(key).tasks.apply([TaskChange(99, "x", None, Answer.NONE, None)])
    browser.open(f"{server}/projects/3")
    assert browser.run(broken) is True
    filled.of(key).tasks.apply([TaskChange(99, None, "no image", Answer.NONE, None)])
    filled.projects.set(key, error="the token is refused")
    browser.wait("the broken image", "() => !document.getElementById('broken-card').hidden")
    said = browser.run("() => document.getElementById('said').textContent")
    assert "The token is refused" in said


def test_boxes_lie_on_their_objects_on_any_screen(server: str, pages, tmp_path: Path, browser: Chromium) -> None:
    boxes_project(pages.extensions["pt4al"].store, tmp_path)
    place = """(inside, kind) => {
      const picture = document.querySelector(`${inside} .picture`), image = picture.querySelector("img");
      const r = picture.querySelector(`.${kind} rect`).getBoundingClientRect(), i = image.getBoundingClientRect();
      const height = i.width / 2, top = i.top + (i.height - height) / 2; // twice as wide as it is high
      return [(r.left - i.left) / i.width, (r.top - top) / height, r.width / i.width, r.height / height];
    }"""
    browser.open(f"{server}/projects/3")
    browser.wait("all figures", DRAWN, 8)
    for width, mobile in ((1200, False), (390, True)):
        browser.resize(width, 6000, mobile=mobile)
        browser.wait("the pictures", LOADED, "#queue .picture img, #worst .picture img")
        assert browser.run(place, "#worst", "miss") == pytest.approx([0.5, 0.5, 0.25, 0.25], abs=0.05)
        assert browser.run(place, "#queue", "plain") == pytest.approx([0.1, 0.1, 0.2, 0.2], abs=0.06)
        assert browser.run("() => document.documentElement.scrollWidth <= innerWidth")
    assert browser.console == []
