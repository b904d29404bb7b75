"""The figures' numbers, computed by hand from the filled project."""

import numpy as np
import pytest

from backend.dashboard.figures.balance import class_table
from backend.dashboard.figures.base import names, plain
from backend.dashboard.figures.losses import group_batches
from backend.dashboard.figures.pool_map import Projection
from backend.dashboard.text import time_left
from backend.project_files import Files
from backend.status.query_error_rate import ErrorRateDifference, Rate, error_rate_difference, error_rates_by_round
from backend.store import Answer, AskRole, JobRow, JobState, Store
from backend.store.dashboard_queries import AskedQuality, AskedTarget
from backend.store.tasks import TaskChange
from model.problems import problem

CAT, DOG = "cat", "&lt;b&gt;dog&lt;/b&gt;"


@pytest.fixture
def draw(browser, filled: Store):
    return lambda name: browser.get(f"/projects/3/figures/{name}.json").json


@pytest.mark.parametrize("name", problem("single_label").figures)
def test_figures_of_an_empty_project_say_what_they_wait_for(browser, name: str) -> None:
    setup = {"project": "3.1700000000", "schema": "<View/>", "hostname": "http://studio", "access_token": "t"}
    browser.post("/setup", json=setup)
    answer = browser.get(f"/projects/3/figures/{name}.json")
    assert answer.status_code == 200
    assert set(answer.json) == {"waiting"}


def test_the_curve_has_accuracy_and_interval(draw) -> None:
    trace = draw("curve")["data"][0]
    assert (trace["x"], trace["y"]) == ([2], [80])
    assert trace["error_y"]["array"] == [pytest.approx(94.33 - 80, abs=0.01)]  # Wilson, 8 of 10
    assert trace["error_y"]["arrayminus"] == [pytest.approx(80 - 49.02, abs=0.01)]


def test_the_curve_joins_no_points_that_few_images_stand_behind(draw, filled: Store) -> None:
    key = filled.projects.find(3).id
    more = {"state": "closed", "has_model": True, "classes": ["cat", "<b>dog</b>"]}
    filled.of(key).rounds.set(1, **more, labels=6, holdout_size=9, holdout_quality=9, holdout_squares=9)
    points, line = draw("curve")["data"]
    assert (points["x"], points["y"]) == ([2, 6], [80, 100])
    assert points["marker"]["symbol"] == ["circle", "circle-open"]
    assert points["cliponaxis"] is False  # a point at 100% is a whole one
    assert line["x"] == [2]


def test_the_histogram_counts_each_batch_and_marks_labels(draw) -> None:
    *bars, ticks = draw("losses")["data"]
    assert [sum(bar["y"]) for bar in bars] == [6, 6]
    assert [bar["name"] for bar in bars] == ["batch 0", "1"]
    assert max(x for x, y in zip(bars[0]["x"], bars[0]["y"], strict=True) if y) < 0.55
    assert ticks["x"] == [0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7]  # tasks 1, 2, 4 to 8 are labeled


def test_the_histogram_of_a_very_large_pool_stands_for_all_of_it(draw, monkeypatch) -> None:
    monkeypatch.setattr("backend.dashboard.project_page.MANY_IMAGES", 12)  # every second image is read
    bars = draw("losses")["data"][:-1]
    assert [sum(bar["y"]) for bar in bars] == [6, 6]
    assert sum(len([y for y in bar["y"] if y]) for bar in bars) == 6


def test_skewed_losses_get_a_logarithmic_axis(draw, filled: Store) -> None:
    losses = [0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.01, 0.01, 0.01, 0.1, 10.0]
    filled.of(filled.projects.find(3).id).tasks.set_losses(dict(enumerate(losses)))
    filled.projects.set(filled.projects.find(3).id, pretext_key="another")
    figure = draw("losses")
    assert sum(sum(bar["y"]) for bar in figure["data"][:-1]) == 12
    assert figure["layout"]["xaxis"]["range"] == pytest.approx([-6, 1])  # zero stands at a millionth
    marks = dict(zip(figure["layout"]["xaxis"]["ticktext"], figure["layout"]["xaxis"]["tickvals"], strict=True))
    assert marks["0.01"] == pytest.approx(-2)
    assert marks["3"] == pytest.approx(0.4771)
    assert figure["data"][-1]["x"][:2] == pytest.approx([-6, -3])
    assert figure["data"][0]["customdata"][-1].endswith(" to 10")


def test_the_balance_has_a_column_a_round_and_one_for_random_images(draw) -> None:
    trace = draw("balance")["data"][0]
    assert trace["x"] == ["random", "round 1", "round 2"]
    assert trace["y"] == [CAT, DOG]
    # random: 4 and 7 are cats; round 1: 1 a cat, 2 a dog; round 2: 5, 6 and the reserve 8 are dogs
    assert trace["text"] == [[2, 1, 0], [0, 1, 3]]
    assert trace["z"] == [[100, 50, 0], [0, 50, 100]]


def test_the_confusion_matrix_compares_the_newest_model_with_the_holdout(draw) -> None:
    trace = draw("confusion")["data"][0]
    assert trace["text"] == [[1, 1], ["", ""]]  # of the cats 4 and 7 the model takes 4 for a dog
    assert trace["z"] == [[50, 50], [0, 0]]
    assert trace["x"] == [CAT, DOG]


def test_the_reliability_diagram_has_a_point_a_range_of_confidence(draw) -> None:
    line, dots = draw("reliability")["data"]
    assert (line["x"], line["y"]) == ([0, 100], [0, 100])
    assert dots["x"] == pytest.approx([70, 90])
    assert dots["y"] == [0, 100]


def test_the_map_shows_each_image_once_in_its_kind(draw) -> None:
    figure = draw("map")
    places = {trace["name"]: sorted(point[0] for point in trace["customdata"]) for trace in figure["data"]}
    assert places == {"rest": [2, 10, 11], "labeled": [0, 1, 3, 4, 5, 6, 7], "queued": [8, 9]}
    assert figure["layout"]["meta"]["source"] == "pixels"  # posteriors of two classes lie on a line
    queued = next(trace for trace in figure["data"] if trace["name"] == "queued")
    assert queued["customdata"][0] == [8, 9, "queued: looks like cat (80%)"]


def test_the_map_prefers_the_features_of_the_model(draw, filled: Store, tmp_path) -> None:
    key = filled.projects.find(3).id
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    np.save(Files.of(tmp_path, key).embeddings(0), features)
    assert draw("map")["layout"]["meta"]["source"] == "embeddings"


def test_figures_follow_new_answers(draw, filled: Store) -> None:
    draw("balance")
    filled.of(filled.projects.find(3).id).tasks.apply([TaskChange(9, "x", None, Answer.LABELED, "cat")])
    assert draw("balance")["data"][0]["text"] == [[2, 1, 1], [0, 1, 3]]
    assert 8 in [
        point[0] for trace in draw("map")["data"] if trace["name"] == "labeled" for point in trace["customdata"]
    ]


def test_projection_finds_the_directions_of_most_spread() -> None:
    features = np.array([[3.0, 0, 1], [-3, 0, 1], [0, 1, 1], [0, -1, 1]])
    places = Projection.fit(features).place(features)
    np.testing.assert_allclose(places, [[3, 0], [-3, 0], [0, 1], [0, -1]], atol=1e-12)


def test_projection_of_one_feature_is_flat() -> None:
    places = Projection.fit(np.array([[0.0], [2.0]])).place(np.array([[2.0]]))
    np.testing.assert_allclose(places, [[1, 0]])


def test_the_difference_has_newcombes_interval() -> None:
    # Newcombe 1998, table II, example (a), method 10: 56/70 - 48/80
    low, high = ErrorRateDifference(Rate(56, 70, 56), Rate(48, 80, 48)).interval
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_hardness_counts_reserve_as_asked_and_needs_both_sides() -> None:
    query = AskedQuality(1, AskRole.QUERY, images=5, predicted=4, quality=2, squares=2)
    reserve = AskedQuality(1, AskRole.RESERVE, images=2, predicted=2, quality=1, squares=1)
    held = AskedQuality(1, AskRole.HOLDOUT, images=3, predicted=3, quality=2, squares=2)
    unguessed = AskedQuality(0, AskRole.HOLDOUT, images=9, predicted=0, quality=0, squares=0)
    assert error_rate_difference([query, reserve, held, unguessed]) == ErrorRateDifference(Rate(3, 6, 3), Rate(1, 3, 1))
    assert error_rate_difference([query, unguessed]) is None
    assert error_rates_by_round([query, held, unguessed]) == {1: ErrorRateDifference(Rate(2, 4, 2), Rate(1, 3, 1))}


def test_errors_of_qualities_between_are_added_with_their_squares() -> None:
    # Qualities 0.5 and 0.75, so errors 0.5 and 0.25, and 0.3125 is the sum of their squares.
    query = AskedQuality(1, AskRole.QUERY, images=2, predicted=2, quality=1.25, squares=0.8125)
    held = AskedQuality(1, AskRole.HOLDOUT, images=1, predicted=1, quality=1, squares=1)
    assert error_rate_difference([query, held]) == ErrorRateDifference(Rate(0.75, 2, 0.3125), Rate(0, 1, 0))


def test_many_batches_share_colours_in_order() -> None:
    assert group_batches(3).tolist() == [0, 1, 2]
    assert group_batches(20).tolist() == [i // 2 for i in range(20)]
    assert group_batches(1000)[[0, 99, 100, 999]].tolist() == [0, 0, 1, 9]


def test_names_are_short_plain_and_distinct() -> None:
    long = "a very long name of a class of things"
    assert names([long + "1", long + "2", "<i>"]) == [
        plain(long, 24),
        f"{plain(long, 24)} (2)",
        "&lt;i&gt;",
    ]


@pytest.mark.parametrize(
    ("start", "progress", "elapsed", "words"),
    [
        (0.0, 0.25, 100, "about 5 minutes left"),
        (0.0, 0.5, 40, "less than a minute left"),
        (0.0, 0.1, 1200, "about 3.0 hours left"),
        (0.0, 0.01, 1000, None),
        (0.0, 0.5, 1, None),
        (0.5, 0.51, 100, None),
        (0.5, 0.6, 100, "about 7 minutes left"),  # four times what the last 100 s did
    ],
)
def test_time_left_goes_by_the_pace_so_far(start: float, progress: float, elapsed: float, words: str | None) -> None:
    now = 1000.0 + elapsed
    job = JobRow(kind="retrain", state=JobState.RUNNING, progress=progress, queued_at=0.0)
    assert time_left(job, now) is None
    job.paced_at, job.paced_from, job.heartbeat_at = 1000.0, start, now
    assert time_left(job, now) == words


def test_time_left_runs_down_between_two_signs_of_life() -> None:
    job = JobRow(progress=0.5, paced_at=0.0, paced_from=0.0, heartbeat_at=200.0)
    assert [time_left(job, now) for now in (200, 320)] == ["about 3 minutes left", "about 1 minute left"]


def test_class_table_goes_by_rounds_and_not_by_their_letters() -> None:
    rows = [AskedTarget(number, AskRole.QUERY, "cat", 1) for number in (10, 2, 0)]
    rows.append(AskedTarget(3, AskRole.HOLDOUT, "cat", 1))
    assert list(class_table(rows, problem("single_label"))) == ["random", "0", "2", "10"]
