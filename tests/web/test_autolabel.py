"""Labeling the rest, and what people take away, on the filled project."""

import csv
import io
import json

import numpy as np
import pytest

from backend.project_files import Files
from backend.status.predictions import open_predictions
from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from model.evaluation.calibration import fit_temperature
from model.problems import problem
from model.querying.outputs import Outputs

CAT, DOG = "cat", "<b>dog</b>"
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def client(pages):
    return pages.test_client()


@pytest.fixture
def fresh(filled: Store, tmp_path) -> Store:
    """The filled project, whose model is sure of the unlabeled 11 and 12 alone; 4 tasks of 12 have no answer."""
    probs = np.tile(np.array([0.6, 0.4], np.float32), (12, 1))
    probs[10:] = (0.02, 0.98)
    probs[3], probs[6] = (0.05, 0.95), (0.99, 0.01)  # the holdout's cats: surely wrong, surely right
    np.save(Files.of(tmp_path, filled.projects.find(3).id).probs(0), probs)
    return filled


def order_of(store: Store):
    return store.of(store.projects.find(3).id).autolabel.get()


def test_preview_counts_images_and_expects_errors(client, fresh: Store) -> None:
    found = client.get("/api/projects/3/final?confidence=0.75").json
    assert (found["round"], found["model_version"], found["images"], found["left"]) == (0, "pt4al-final-r000", 2, 2)
    assert found["holdout"] == {"images": 2, "wrong": 1}
    low, high = found["interval"]
    assert 0 <= low < found["expected_errors"] < high <= 2
    assert found["order"] is None


def test_the_temperature_is_fitted_to_the_holdout_alone(pages, fresh: Store) -> None:
    key = fresh.projects.find(3).id
    predictions = open_predictions(fresh.of(key), Files.of(fresh.data_dir, key))
    outputs = Outputs(probs=np.array([(0.05, 0.95), (0.99, 0.01)], np.float32))
    alone = fit_temperature(problem("single_label"), outputs, np.arange(2), np.array([0, 0]))
    assert predictions.temperature.value == alone.value
    assert predictions.temperature.value > 1


def test_the_pool_is_opened_once_until_something_changes(client, browser, fresh: Store, monkeypatch, tmp_path) -> None:
    opened: list[int] = []
    key = fresh.projects.find(3).id
    pool = fresh.of(key).dashboard.pool
    monkeypatch.setattr(fresh.of(key).dashboard, "pool", lambda *given: opened.append(1) or pool(*given))

    def look() -> tuple[int, dict]:
        """Ask for everything that shows the pool; return how often it was opened, and the preview."""
        opened.clear()
        for path in ("predictions.csv", "predictions.json", "final?confidence=0.6"):
            assert client.get(f"/api/projects/3/{path}").status_code == 200
        assert browser.get("/projects/3/final?confidence=0.6").status_code == 200
        return len(opened), client.get("/api/projects/3/final?confidence=0.75").json

    assert look()[0] == 1
    assert look()[0] == 0
    fresh.of(key).tasks.apply([TaskChange(12, "x", None, Answer.LABELED, DOG)])
    times, said = look()
    assert (times, said["images"]) == (1, 1)
    fresh.of(key).tasks.apply(
        [TaskChange(4, "x", None, Answer.LABELED, DOG)]
    )  # a holdout's label, and no count, changes
    fresh.projects.set(key, cursor="2026-01-01T00:00:00Z")
    times, said = look()
    assert (times, said["holdout"]["wrong"]) == (1, 0)
    np.save(Files.of(tmp_path, key).probs(0), np.tile(np.array([0.6, 0.4], np.float32), (12, 1)))
    times, said = look()
    assert (times, said["images"]) == (1, 0)
    assert look()[0] == 0


def test_order_is_what_was_looked_at(client, fresh: Store) -> None:
    answer = client.post("/api/projects/3/final", json={"confidence": 0.75, "round": 0})
    assert answer.status_code == 202
    assert answer.json["order"]["written"] is False
    placed = order_of(fresh)
    assert (placed.round, placed.confidence, placed.images, placed.written_at) == (0, 0.75, 2, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"confidence": 0.75, "round": 1}, 409),
        ({"confidence": 2}, 400),
        ({"confidence": "x"}, 400),
        ({"confidence": 10**400}, 400),
        ({}, 400),
    ],
)
def test_a_wrong_order_changes_nothing(client, fresh: Store, body: dict, code: int) -> None:
    assert client.post("/api/projects/3/final", json=body).status_code == code
    assert order_of(fresh) is None


def test_a_form_of_another_site_cannot_order(client, fresh: Store) -> None:
    form = {"confidence": "0.75", "round": "0"}
    assert client.post("/api/projects/3/final", data=form).status_code == 400  # a form cannot send JSON unasked
    assert client.post("/projects/3/final", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert order_of(fresh) is None


def test_the_page_shows_before_it_writes(browser, fresh: Store) -> None:
    html = browser.get("/projects/3/final?confidence=0.75").text
    assert "Write 2 predictions" in html
    assert "Of the random images, 1 of the 2 on which it is as sure is wrong" in html
    answer = browser.post("/projects/3/final", data={"confidence": "0.75", "round": "0"}, headers=SAME)
    assert (answer.status_code, answer.location) == (303, "/projects/3/final?percent=75")
    assert order_of(fresh).images == 2
    page = browser.get(answer.location).text
    assert "Writing 2 predictions" in page
    assert 'id="write"' not in page
    fresh.of(fresh.projects.find(3).id).autolabel.written(order_of(fresh).ordered_at, 2)
    assert "2 predictions stand in Label Studio" in browser.get("/projects/3").text
    page = browser.get(answer.location).text
    assert 'href="http://studio/projects/3/data"' in page
    assert "Create annotations from predictions" in page
    assert 'id="write"' not in page  # what is written is not offered again
    assert 'id="write"' in browser.get("/projects/3/final?percent=50").text


def test_the_page_takes_percent(browser, fresh: Store) -> None:
    for asked in ("75", "75%", "75,0"):
        html = browser.get("/projects/3/final", query_string={"percent": asked}).text
        assert 'value="75"' in html
        assert "Write 2 predictions" in html


@pytest.mark.parametrize("percent", ["x", "101", "-1", "", "nan", "1e400"])
def test_a_wrong_percentage_goes_back_to_the_form(browser, fresh: Store, percent: str) -> None:
    form = {"percent": percent, "round": "0"}
    for answer in (
        browser.get("/projects/3/final", query_string={"percent": percent}),
        browser.post("/projects/3/final", data=form, headers=SAME),
    ):
        assert answer.status_code == 400
        assert "from 0 to 100, such as 90" in answer.text
        assert 'name="percent"' in answer.text
    assert order_of(fresh) is None


def test_a_newer_model_is_looked_at_first(browser, fresh: Store) -> None:
    answer = browser.post("/projects/3/final", data={"confidence": "0.75", "round": "7"}, headers=SAME)
    assert answer.status_code == 409
    assert "A newer model has been trained meanwhile: look at its numbers first" in answer.text
    assert 'name="percent"' in answer.text


@pytest.mark.parametrize("number", ["²", "", "-0", "9" * 5000])
def test_a_round_that_is_no_number_is_not_that_of_the_model(browser, fresh: Store, number: str) -> None:
    answer = browser.post("/projects/3/final", data={"confidence": "0.75", "round": number}, headers=SAME)
    assert answer.status_code == 409
    assert order_of(fresh) is None


@pytest.mark.parametrize("path", ["final", "predictions.csv", "predictions.json", "model.onnx", "model.safetensors"])
def test_without_a_model_there_is_nothing_to_take_away(client, browser, path: str) -> None:
    client.post(
        "/setup",
        json={"project": "3.1700000000", "schema": "<View/>", "hostname": "http://studio", "access_token": "t"},
    )
    assert client.get(f"/api/projects/3/{path}").status_code == 404
    assert browser.get("/projects/3/final").status_code == 404


def rows_of(answer) -> list[dict[str, str]]:
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_losses_are_a_line_an_image(client, fresh: Store, monkeypatch) -> None:
    monkeypatch.setattr("backend.store.dashboard_queries.LINES", 5)  # several transactions
    rows = rows_of(client.get("/api/projects/3/losses.csv"))
    assert [int(row["task"]) for row in rows] == list(range(1, 13))
    assert [row["pretext_batch"] for row in rows] == ["0"] * 6 + ["1"] * 6
    assert float(rows[3]["pretext_loss"]) == pytest.approx(0.3)
    assert (rows[0]["answer"], rows[0]["label"]) == ("labeled", CAT)
    assert (rows[2]["answer"], rows[11]["answer"]) == ("skipped", "")


def test_predictions_are_calibrated_and_beside_the_labels(client, fresh: Store) -> None:
    rows = rows_of(client.get("/api/projects/3/predictions.csv"))
    assert [row["prediction"] for row in rows[9:]] == [CAT, DOG, DOG]
    assert 0.5 < float(rows[11]["confidence"]) < 0.98  # the holdout says that it is too sure
    assert (rows[0]["label"], rows[11]["label"]) == (CAT, "")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_table_holds_no_formula(client, fresh: Store, begin: str) -> None:
    key, text = fresh.projects.find(3).id, begin + 'HYPERLINK("http://evil")'
    fresh.of(key).tasks.apply([TaskChange(1, text, None, Answer.LABELED, text)])
    fresh.of(key).tasks.images_fetched({1: 0})
    fresh.of(key).tasks.set_losses({0: -1.5})
    fresh.of(key).rounds.set(0, classes=[text, DOG])
    lost = rows_of(client.get("/api/projects/3/losses.csv"))[0]
    assert (lost["image"], lost["label"], lost["pretext_loss"]) == ("'" + text, "'" + text, "-1.5")
    guessed = rows_of(client.get("/api/projects/3/predictions.csv"))[0]
    assert (guessed["image"], guessed["prediction"], guessed["label"]) == ("'" + text,) * 3
    assert 0.5 < float(guessed["confidence"]) < 1


def test_predictions_can_be_imported_into_label_studio(client, fresh: Store) -> None:
    tasks = json.loads(client.get("/api/projects/3/predictions.json").text)
    assert len(tasks) == 12
    assert tasks[11]["data"] == {"image": "x"}
    (prediction,) = tasks[11]["predictions"]
    assert prediction["model_version"] == "pt4al-final-r000"
    assert prediction["result"][0]["value"] == {"choices": [DOG]}


def test_the_model_is_served_once_its_files_are_there(client, browser, fresh: Store, pages, tmp_path) -> None:
    assert client.get("/api/projects/3/model.onnx").status_code == 404
    key = fresh.projects.find(3).id
    Files.of(tmp_path, key).onnx(0).write_bytes(b"onnx")
    Files.of(tmp_path, key).safetensors(0).write_bytes(b"bare")
    fresh.of(key).rounds.set(0, exported=True)
    with client.get("/api/projects/3/model.onnx") as answer:
        assert answer.data == b"onnx"
        assert "project-3-round-1.onnx" in answer.headers["Content-Disposition"]
    with client.get("/api/projects/3/model.safetensors") as answer:
        assert answer.data == b"bare"
    assert client.get("/api/projects/3/model.exe").status_code == 404
    assert "Model of round 1 (ONNX)" in browser.get("/projects/3").text
