import threading
import time

import numpy as np
import pytest
from support.studio_web import Web, png, reply

from backend.demo.annotator import Annotator
from backend.errors import StudioUnreachable
from backend.items import fetching
from backend.items.fetching import AHEAD, PixelBudget, download_images
from backend.studio import session as session_module
from backend.studio.no_addresses import NOT_THERE
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken
from model.data.decoding import Decoded


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(session_module, "BACKOFF_S", 0.01)


@pytest.fixture
def ours(web: Web) -> LabelStudio:
    return LabelStudio(web.url, [NamedToken("token", "c0ffee")])


def test_download_images_brings_uploads_in_their_order(studio: LabelStudio, person: Annotator, project):
    person.upload_images(project, [(f"{shade}.png", png(shade, (16, 16))) for shade in range(0, 200, 10)])
    refs = [
        (task.id, task.data["image"])
        for task in studio.project(project).tasks.by_id(studio.project(project).tasks.ids())
    ]
    fetched = list(download_images(studio.project(1), refs, 8))
    assert [image.task_id for image in fetched] == [task for task, _ in refs]
    assert [int(image.pixels.mean()) for image in fetched] == list(range(0, 200, 10))
    assert {(image.pixels.shape, image.pixels.dtype, image.size) for image in fetched} == {
        ((8, 8, 3), np.dtype(np.uint8), (16, 16))
    }


def test_download_images_reports_bad_ones_and_goes_on(ours: LabelStudio, web: Web):
    def answer(handler, _):
        status = {"/data/gone.png": 404, "/data/busy.png": 500}.get(handler.path, 200)
        reply(handler, status, b"not an image" if handler.path == "/data/text.png" else png(7), "image/png")

    web.answer = answer
    names = ["a.png", "gone.png", "busy.png", "text.png", "b.png"]
    refs = [*enumerate(f"/data/{name}" for name in names), (9, "file:///etc/passwd")]
    good, gone, busy, text, last, local = download_images(ours.project(1), refs, 4)
    assert (good.error, last.error) == (None, None)
    assert (gone.error, gone.transient) == (NOT_THERE, False)
    assert (busy.error, busy.transient) == ("Label Studio answered 500 Internal Server Error", True)
    assert (text.pixels, text.transient) == (None, False)
    assert "image" in text.error
    assert "local files" in local.error


def test_download_images_stops_when_label_studio_is_down(ours: LabelStudio, web: Web):
    web.answer = lambda handler, number: reply(handler, 200 if number < 4 else 503, png(), "image/png")
    fetched = download_images(ours.project(1), ((task, f"/data/{task}.png") for task in range(1000)), 4, workers=2)
    with pytest.raises(StudioUnreachable):
        list(fetched)
    assert len(web.requests) < 100


def test_download_images_runs_ahead_only_so_far(ours: LabelStudio, web: Web):
    web.answer = lambda handler, _: reply(handler, 200, png(), "image/png")
    taken = []

    def refs():
        for task in range(1000):
            taken.append(task)
            yield task, f"/data/{task}.png"

    fetched = download_images(ours.project(1), refs(), 4, workers=3)
    next(fetched)
    time.sleep(0.1)
    assert len(taken) == 3 * AHEAD + 1
    fetched.close()
    assert len(taken) == 3 * AHEAD + 1


def test_download_images_works_at_several_at_once(ours: LabelStudio, web: Web):
    together = threading.Barrier(4, timeout=60)
    web.answer = lambda handler, _: (together.wait(), reply(handler, 200, png(), "image/png"))
    refs = [(task, f"/data/{task}.png") for task in range(4)]
    assert [image.error for image in download_images(ours.project(1), refs, 4, workers=4)] == [None] * 4


def test_download_images_asks_once_for_a_file_that_a_thousand_tasks_name(ours: LabelStudio, web: Web):
    web.answer = lambda handler, _: reply(handler, 200, png(7), "image/png")
    fetched = list(download_images(ours.project(1), ((task, "/data/a.png") for task in range(1000)), 4))
    assert [image.task_id for image in fetched] == list(range(1000))
    assert {int(image.pixels.mean()) for image in fetched} == {7}
    assert len(web.requests) == 1


@pytest.mark.parametrize(("budget", "together"), [(40, 1), (48, 1), (2 * 48, 2), (3 * 48 + 47, 3)])
def test_download_images_decodes_so_many_pixels_at_once(ours: LabelStudio, web: Web, monkeypatch, budget, together):
    at_once, most, lock = [], [], threading.Lock()

    def decode(body, sides, ranges):
        with lock:
            at_once.append(1)
            most.append(len(at_once))
        time.sleep(0.05)
        with lock:
            at_once.pop()
        return Decoded(np.zeros((sides.bank, sides.bank, 3), np.uint8))

    monkeypatch.setattr(fetching, "decode_with_depth", decode)
    monkeypatch.setattr(fetching, "_budget", PixelBudget(budget))
    web.answer = lambda handler, _: reply(handler, 200, png(), "image/png")  # 8 x 6 pixels
    assert len(list(download_images(ours.project(1), [(task, f"/data/{task}.png") for task in range(12)], 4))) == 12
    assert max(most) == together


def test_pixel_budget_lets_nobody_overtake_one_that_waits():
    budget, order = PixelBudget(10), []

    def take(name, pixels):
        with budget.of(pixels):
            order.append(name)

    with budget.of(5):
        large = threading.Thread(target=take, args=("large", 100))
        large.start()
        while not budget._turn.locked():
            time.sleep(0.01)
        small = threading.Thread(target=take, args=("small", 1))
        small.start()
        time.sleep(0.05)
        assert order == []
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_pixel_budget_gives_back_what_a_failure_held():
    budget = PixelBudget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), budget.of(8):
            raise ValueError("damaged")
    with budget.of(10):
        pass
