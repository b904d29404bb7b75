import numpy as np
import pytest

from model.lab.learning_curves import RoundRow, labels_needed, needed_interval, summarize, table

LABELS = np.array([100.0, 200.0, 300.0])


def row(strategy, seed, number, accuracy):
    return RoundRow(strategy=strategy, seed=seed, round=number, labels=100 * (number + 1), accuracy=accuracy)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.4, 100), (0.45, 150), (0.6, 300), (0.61, np.inf), (0.39, None), (0.5, 200)],
)
def test_labels_needed_interpolates_the_curve(accuracy, expected):
    assert labels_needed(accuracy, LABELS, np.array([0.4, 0.5, 0.6])) == pytest.approx(expected)


def test_labels_needed_does_not_unlearn_in_a_dip():
    assert labels_needed(0.5, LABELS, np.array([0.4, 0.6, 0.3])) == pytest.approx(150)


def test_summarize_pairs_the_seeds_with_random():
    rows = [
        row("random", 0, 0, 0.5),
        row("random", 1, 0, 0.3),
        row("a", 0, 0, 0.6),
        row("a", 1, 0, 0.5),
        row("a", 2, 0, 0.1),
    ]
    control, own = summarize(rows)
    assert (control.strategy, control.difference, control.pairs) == ("random", 0.0, 2)
    assert own.mean == pytest.approx(0.4)
    assert own.sd == pytest.approx(np.std([0.6, 0.5, 0.1], ddof=1))
    assert (own.pairs, own.seeds) == (2, 3)
    assert own.difference == pytest.approx(0.15)
    assert own.difference_sd == pytest.approx(np.std([0.1, 0.2], ddof=1))


def test_summarize_counts_the_labels_saved_on_the_mean_curve_of_random():
    rows = [row("random", 0, n, a) for n, a in enumerate([0.4, 0.5, 0.6])]
    rows += [row("a", 0, n, a) for n, a in enumerate([0.5, 0.55, 0.7])]
    saved = [point.saved for point in summarize(rows) if point.strategy == "a"]
    assert saved == pytest.approx([100, 50, np.inf])


def test_summarize_counts_the_labels_saved_against_random_with_the_same_seeds():
    """Seed 1 is hard: random's mean over both seeds is below what any strategy reaches with seed 0 alone."""
    rows = [row("random", seed, n, a - 0.2 * seed) for seed in (0, 1) for n, a in enumerate([0.4, 0.5, 0.6])]
    rows += [row("a", 0, n, a) for n, a in enumerate([0.4, 0.5, 0.6])]
    saved = [point.saved for point in summarize(rows) if point.strategy == "a"]
    assert saved == [0, 0, 0]


def test_summarize_compares_only_rounds_that_random_has_with_every_seed():
    rows = [row("random", 0, n, a) for n, a in enumerate([0.4, 0.6])] + [row("random", 1, 0, 0.2)]
    rows += [row("a", 0, 0, 0.5), row("a", 1, 0, 0.3), row("a", 2, 0, 0.9)]
    (point,) = [point for point in summarize(rows) if point.strategy == "a"]
    assert (point.saved, point.reach, point.pairs) == (np.inf, (100, 100), 2)


def test_summarize_saves_random_nothing_of_itself():
    rows = [row("random", 0, n, a) for n, a in enumerate([0.4, 0.6])]
    assert [(point.saved, point.reach) for point in summarize(rows)] == [(None, None)] * 2
    assert [line.split()[-1] for line in table(summarize(rows)).splitlines()[1:]] == ["-", "-"]


def test_summarize_without_random_has_no_differences():
    (point,) = summarize([row("a", 0, 0, 0.5)])
    assert (point.difference, point.saved, point.sd, point.pairs) == (None, None, None, 0)


def test_summarize_keeps_the_order_of_strategies_and_sorts_rounds():
    rows = [row("z", 0, 1, 0.5), row("a", 0, 0, 0.5), row("z", 0, 0, 0.5)]
    assert [(p.strategy, p.round) for p in summarize(rows)] == [("z", 0), ("z", 1), ("a", 0)]


def test_table_prints_a_line_a_point_and_a_bound_where_random_never_gets_there():
    rows = [row("random", 0, 0, 0.4), row("random", 0, 1, 0.5), row("a", 0, 0, 0.7)]
    lines = table(summarize(rows)).splitlines()
    assert len(lines) == 4
    assert lines[3].split() == ["a", "0", "100", "70.00", "-", "+30.00", "-", "(1)", ">", "100"]


def test_interval_of_the_labels_needed_spans_what_the_seeds_say():
    rows = [row("random", seed, number, 0.1 * (number + 1)) for seed in range(5) for number in range(6)]
    rows += [row("ours", seed, 0, accuracy) for seed, accuracy in enumerate([0.2, 0.2, 0.3, 0.4, 0.4])]
    low, high = needed_interval(rows, "ours", 0)
    assert 200 < low < 300 < high < 400
    assert needed_interval([row for row in rows if row["seed"] < 2], "ours", 0) is None


def test_interval_of_the_labels_needed_has_bounds_where_the_curve_of_random_ends():
    rows = [row("random", seed, number, 0.1 * (number + 1)) for seed in range(3) for number in range(2)]
    rows += [row("best", seed, 0, 0.9) for seed in range(3)] + [row("worst", seed, 0, 0.05) for seed in range(3)]
    assert needed_interval(rows, "best", 0) == (float("inf"), float("inf"))
    assert needed_interval(rows, "worst", 0) == (0.0, 0.0)
