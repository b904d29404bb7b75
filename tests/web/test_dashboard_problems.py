"""The pages and the JSON of projects whose problem is not one class of a flat list."""

import html
import re

import numpy as np
import pytest
from support.problem_pages import DOG, STARS, TREE, classes_project, fill_problem, sets_project
from support.web_pages import CONFIG, IMAGES

from backend.autolabel.step import _read_order
from backend.labeling.classification import Classification
from backend.labeling.project import labeling_of
from backend.labeling.registry import LABELINGS, LabelingInfo
from backend.project_files import Files
from backend.store import Store
from model.problems import PROBLEMS
from model.problems.base import VectorProblem

CAT_PATH, DOG_PATH = "animal / a cat with a long name", "animal / a dog with a long name"
SAME = {"Sec-Fetch-Site": "same-origin"}
ESCAPED_DOG = "&lt;b&gt;dog&lt;/b&gt;"


@pytest.fixture
def sets(store: Store, tmp_path) -> Store:
    sets_project(store, tmp_path)
    return store


def text_of(browser, path: str = "/projects/3") -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", answer.text).split()))


def figures_of(browser) -> dict[str, dict]:
    """Return every figure that the page names, in order."""
    paths = re.findall(r'data-figure="([^"]+)"', browser.get("/projects/3").text)
    return {path.split("/")[-1].removesuffix(".json"): browser.get(path).json for path in paths}


def test_sets_of_classes_are_measured_by_f1(browser, sets: Store) -> None:
    status = browser.get("/api/projects/3").json
    assert (status["problem"], status["metric"], status["control"]) == ("multi_label", "f1", "animals")
    (entry,) = status["history"]
    assert entry["quality"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4, abs=1e-4)
    assert (entry["holdout_accuracy"], entry["holdout_correct"], entry["holdout_size"]) == (None, None, 4)
    text = text_of(browser)
    assert "F1 on random images 0.67 on 4 images, too few to say" in text
    assert "the model has a mean F1 of 0.67 on 4 random images" in text
    assert "ccuracy" not in text + text_of(browser, "/")


def test_the_page_of_sets_shows_the_figures_of_its_problem_in_order(browser, sets: Store) -> None:
    figures = figures_of(browser)
    assert list(figures) == ["curve", "losses", "balance", "classes", "reliability", "map"]
    assert not any("waiting" in figure for figure in figures.values())
    assert browser.get("/projects/3/figures/confusion.json").status_code == 404
    assert "data-hides hidden" not in browser.get("/projects/3").text.split('id="broken-card"')[0]


def test_each_class_has_its_precision_recall_and_threshold(browser, sets: Store) -> None:
    trace = browser.get("/projects/3/figures/classes.json").json["data"][0]
    assert trace["y"] == ["cat", ESCAPED_DOG]
    assert trace["x"] == ["images", "precision", "recall", "F1", "threshold"]
    # 1 and 2 are cats and 1, 2 and 3 are called so; 2 and 3 are dogs, and nothing is called one.
    assert trace["text"] == [["2", "0.67", "1.00", "0.80", "0.40"], ["2", "-", "0.00", "0.00", "0.50"]]
    assert trace["z"] == [[0, 67, 100, 80, 0], [0, 0, 0, 0, 0]]
    page = browser.get("/projects/3").text
    rows = re.search(r'id="class-result-table".*?</table>', page, re.S).group()
    assert re.findall(r"<td>(.*?)</td>", rows)[:6] == ["2", "3", "0.67", "1.00", "0.80", "0.40"]
    assert DOG not in page + browser.get("/projects/3/figures/classes.json").text


def test_many_classes_are_bounded_to_the_most_frequent(browser, sets: Store, monkeypatch) -> None:
    monkeypatch.setattr("backend.dashboard.figures.classes.MAX_CLASSES", 1)
    assert browser.get("/projects/3/figures/classes.json").json["data"][0]["y"] == ["cat"]  # 5 against 2


def test_the_balance_counts_an_image_in_each_of_its_classes(browser, sets: Store) -> None:
    trace = browser.get("/projects/3/figures/balance.json").json["data"][0]
    assert trace["y"] == ["cat", ESCAPED_DOG, "nothing"]
    assert trace["text"] == [[2, 2], [2, 1], [1, 0]]  # of four random images and two of round 1
    assert trace["z"] == [[50, 100], [50, 50], [25, 0]]
    assert f"random images {DOG} 2, cat 2, nothing 1" in text_of(browser)


def test_reliability_compares_expected_with_reached_f1(browser, sets: Store) -> None:
    line, dots = browser.get("/projects/3/figures/reliability.json").json["data"]
    assert line["x"] == [0, 1]
    # Expected F1, by hand: 2p / (1 + sum p) of {cat} for 1 to 3, and (1 - 0.1)(1 - 0.2) of nothing for 4.
    # The first two, 0.9 and 0.8 (a little more, in float32), are in one range.
    assert dots["x"] == pytest.approx([0.9 / 1.55, 0.72, 0.85], abs=1e-3)
    assert dots["y"] == pytest.approx([0, 1, (1 + 2 / 3) / 2], abs=1e-3)
    assert dots["customdata"] == [[1], [1], [2]]


def test_predictions_of_sets_are_written_with_commas_or_as_nothing(browser, sets: Store) -> None:
    queue = re.search(r'id="queue".*?</ol>', browser.get("/projects/3").text, re.S).group()
    assert re.findall(r'class="prediction">(.*?)</span>', queue) == [f"cat, {ESCAPED_DOG}", "nothing"]
    assert "chosen without a model" not in queue
    points = browser.get("/projects/3/figures/map.json").json
    captions = {point[0]: point[2] for trace in points["data"] for point in trace["customdata"]}
    assert captions[3].startswith("labeled: looks like nothing (72%)")
    assert points["layout"]["meta"]["source"] == "probabilities"


def test_labeling_the_rest_of_sets_promises_an_f1(browser, sets: Store) -> None:
    text = text_of(browser, "/projects/3/final?percent=0")
    assert re.search(r"Expect a mean F1 of about 0\.\d\d \(0\.\d\d to \d\.\d\d\)", text)
    assert "On the 4 random images on which it is as sure, it is 0.67." in text
    assert "wrong" not in text
    answer = browser.post("/projects/3/final", data={"percent": "0", "round": "0"}, headers=SAME)
    assert answer.status_code == 303
    assert "Writing 6 predictions" in text_of(browser, answer.location)
    order = sets.of(sets.projects.find(3).id).autolabel.get()
    sets.of(sets.projects.find(3).id).autolabel.written(order.ordered_at, 6)
    assert "expect a mean F1 of about 0." in text_of(browser)


def test_predictions_of_another_problem_are_not_offered(browser, sets: Store) -> None:
    sets.projects.set(sets.projects.find(3).id, label_config=CONFIG)  # now one class an image
    status = browser.get("/api/projects/3").json
    assert (status["problem"], status["history"][0]["problem"]) == ("single_label", "multi_label")
    for path in ("/projects/3/final", "/api/projects/3/final", "/api/projects/3/predictions.csv"):
        answer = browser.get(path)
        assert answer.status_code == 404
        assert "another kind of label" in answer.text
    answer = browser.post("/api/projects/3/final", json={"confidence": 0.5})
    assert answer.status_code == 404
    figures = figures_of(browser)
    assert list(figures) == ["curve", "losses", "balance", "confusion", "reliability", "map"]
    assert {name for name, figure in figures.items() if "waiting" in figure} == {
        "curve", "balance", "confusion", "reliability",
    }  # fmt: skip
    assert "Accuracy on random images not measured" in text_of(browser)


def test_an_order_of_another_problem_is_not_written(sets: Store, tmp_path) -> None:
    project = sets.projects.find(3)
    store, files = sets.of(project.id), Files.of(tmp_path, project.id)
    store.autolabel.order(number=0, confidence=0.0, temperature=1.0, images=6, errors=1.0)
    ordered = _read_order(store, files, labeling_of(project), store.autolabel.get())
    assert len(ordered.tasks) == 6
    sets.projects.set(project.id, label_config=CONFIG)
    assert _read_order(store, files, labeling_of(sets.projects.find(3)), store.autolabel.get()) is None


def test_a_configuration_that_cannot_be_read_hides_neither_pages_nor_numbers(browser, sets: Store) -> None:
    sets.projects.set(sets.projects.find(3).id, label_config="<View/>")
    status = browser.get("/api/projects/3").json
    assert (status["problem"], status["control"], status["metric"]) == (None, None, "f1")
    assert "F1 on random images 0.67" in text_of(browser)


def test_a_taxonomy_shows_the_ends_of_its_paths(browser, store: Store, tmp_path) -> None:
    classes_project(store, tmp_path, TREE, ["animal", CAT_PATH, DOG_PATH, "plant"])
    status = browser.get("/api/projects/3").json
    assert (status["problem"], status["metric"], status["control"]) == ("single_label", "accuracy", "kind")
    figures = figures_of(browser)
    assert list(figures) == ["curve", "losses", "balance", "confusion", "reliability", "map"]
    ends = figures["confusion"]["data"][0]["y"]
    assert ends == [
        "animal",
        "\N{HORIZONTAL ELLIPSIS}" + CAT_PATH[-23:],
        "\N{HORIZONTAL ELLIPSIS}" + DOG_PATH[-23:],
        "plant",
    ]
    assert "Accuracy on random images 3 of 4 right" in text_of(browser)


def test_stars_are_classes(browser, store: Store, tmp_path) -> None:
    classes_project(store, tmp_path, STARS, ["1", "2", "3"])
    assert browser.get("/api/projects/3").json["control"] == "stars"
    figures = figures_of(browser)
    assert figures["balance"]["data"][0]["y"] == ["1", "2", "3"]
    assert browser.get("/projects/3/final").status_code == 200


class Amount(VectorProblem):
    """A number from 0 to 1, with all that a problem need not bring left to the base class."""

    name = "amount"
    metric = "closeness"
    base_outputs = ("values",)
    outputs = frozenset({"values"})

    def fits(self, target, classes):
        return isinstance(target, float)

    def quality(self, prediction, target):
        return 1 - abs(prediction - target)

    def decode(self, outputs, indices, classes, decoding):
        return [round(value, 2) for value in outputs.values[indices, 0].tolist()]

    def encode(self, targets, classes):
        return np.array(targets, np.float32)[:, None]

    def head(self, width, classes):
        raise NotImplementedError

    def loss(self, raw, truth, label_smoothing):
        raise NotImplementedError

    def outputs_of(self, raw):
        raise NotImplementedError


class Number(Classification):
    """``<Number>``: the amount."""

    tag = "Number"

    def __init__(self, control) -> None:
        super().__init__(control, [], single=True)
        self.problem = "amount"

    def read(self, answer):
        raise NotImplementedError

    def write(self, names):
        raise NotImplementedError


def test_a_problem_that_pages_do_not_know_shows_the_default_figures(browser, store, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(PROBLEMS, "amount", Amount())
    monkeypatch.setitem(LABELINGS, "number", LabelingInfo("Number", Number))
    config = '<View><Image name="image" value="$image"/><Number name="much" toName="image"/></View>'
    values = np.full((IMAGES, 1), 0.5, np.float32)
    fill_problem(store, tmp_path, config, "amount", (), [0.5, 0.25, 0.5, 1.0, 0.1, 0.2], {"values": values})
    status = browser.get("/api/projects/3").json
    assert (status["problem"], status["metric"], status["control"]) == ("amount", "closeness", "much")
    assert status["history"][0]["quality"] == pytest.approx((1 + 0.75 + 1 + 0.5) / 4)
    figures = figures_of(browser)
    assert list(figures) == ["curve", "losses", "map"]
    assert not any("waiting" in figure for figure in figures.values())
    assert "rest: looks like 0.5" in str(figures["map"])
    assert "Closeness on random images 0.81 on 4 images" in text_of(browser)
    text = text_of(browser, "/projects/3/final")
    assert "every image without a label gets its prediction. On the 4 labeled random images" in text
    assert "the mean closeness is 0.81" in text
