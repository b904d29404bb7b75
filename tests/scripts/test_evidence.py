"""The tables of the pages on the method are those of the rows in docs/evidence."""

import json

import pytest

from scripts import evidence

ROWS = [
    {"strategy": "random", "seed": 0, "round": 0, "labels": 10, "accuracy": 0.50},
    {"strategy": "random", "seed": 1, "round": 0, "labels": 10, "accuracy": 0.40},
    {"strategy": "random", "seed": 0, "round": 1, "labels": 20, "accuracy": 0.60},
    {"strategy": "/a/b/c", "seed": 0, "round": 0, "labels": 10, "accuracy": 0.53},
    {"strategy": "/a/b/c", "seed": 1, "round": 0, "labels": 10, "accuracy": 0.41},
]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    (tmp_path / "some.json").write_text(json.dumps(ROWS))
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path)


@pytest.mark.parametrize("path", evidence.PAGES, ids=lambda path: path.name)
def test_a_page_has_the_tables_of_the_rows_behind_it(path):
    text = path.read_text()
    assert "<!-- table " in text
    assert evidence.page(text) == text, "run python scripts/evidence.py"


def test_a_table_has_mean_paired_difference_and_the_words_of_its_mark(rows):
    mark = "<!-- table some\nrandom\n/a/b/c = a test\n-->\n"
    drawn = evidence.page(f"before\n{mark}old\n<!-- end of table -->\nafter")
    assert drawn == (
        f"before\n{mark}"
        "| strategy | 10 labels | 20 |\n"
        "| --- | --- | --- |\n"
        "| `random` | 45.0 | 60.0 |\n"
        "| `/a/b/c` (a test) | 47.0 (+2.0 ± 1.4) |  |\n"  # differences of 3 and 1 points
        "\n"
        "Seeds 0 to 1; at least 1 of them in each cell.\n"
        "<!-- end of table -->\nafter"
    )
    assert evidence.page(drawn) == drawn


def test_a_table_shows_the_rounds_of_the_labels_that_its_mark_names(rows):
    mark = "<!-- table some 20\nrandom\n-->\n"
    assert evidence.page(f"{mark}<!-- end of table -->") == (
        f"{mark}| strategy | 20 labels |\n| --- | --- |\n| `random` | 60.0 |\n\n"
        "Seeds 0 to 1; at least 1 of them in each cell.\n<!-- end of table -->"
    )


def test_labels_that_random_needs_are_read_off_its_whole_curve(tmp_path, monkeypatch):
    curve = [(0, 10, 0.5), (1, 20, 0.6), (2, 30, 0.7)]
    rows = [
        {"strategy": name, "seed": 0, "round": number, "labels": labels, "accuracy": accuracy + more}
        for name, more in (("random", 0.0), ("/a/b/c", 0.15))
        for number, labels, accuracy in curve
    ]
    (tmp_path / "some.json").write_text(json.dumps(rows))
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path)
    mark = "<!-- needed some 10 30\n/a/b/c\n-->\n"
    assert evidence.page(f"{mark}<!-- end of table -->") == (
        f"{mark}| strategy | 10 labels | 30 |\n| --- | --- | --- |\n| `/a/b/c` | 25 | > 30 |\n\n"
        "Seeds 0 to 0.\n<!-- end of table -->"
    )


def test_accuracies_are_read_off_at_so_many_objects(tmp_path, monkeypatch):
    curves = {"random": [(100, 0.5), (200, 0.6)], "/a/b/c": [(50, 0.5), (150, 0.7), (160, 0.7)]}
    rows = [
        {"strategy": name, "seed": seed, "round": number, "labels": 8, "accuracy": value + seed / 50, "objects": count}
        for seed in (0, 1)
        for name, curve in curves.items()
        for number, (count, value) in enumerate(curve)
    ]
    rows[-1]["accuracy"] += 0.02  # of seed 1
    (tmp_path / "some.json").write_text(json.dumps(rows))
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path)
    mark = "<!-- objects some 100 160 200\nrandom\n/a/b/c = a test\n-->\n"
    assert evidence.page(f"{mark}<!-- end of table -->") == (
        f"{mark}| strategy | 100 objects | 160 | 200 |\n| --- | --- | --- | --- |\n"
        "| `random` | 51.0 | 57.0 | 61.0 |\n"
        "| `/a/b/c` (a test) | 61.0 (+10.0 ± 0.0) | 72.0 (+15.0 ± 1.4) |  |\n<!-- end of table -->"
    )


def test_a_strategy_without_rows_is_named(rows):
    with pytest.raises(ValueError, match="some has no rows of /x"):
        evidence.page("<!-- table some\nrandom\n/x\n-->\n<!-- end of table -->")


def test_an_overview_has_the_mean_over_the_rounds_with_its_standard_error(rows, tmp_path):
    more = [{"strategy": "/a/b/c", "seed": 0, "round": 1, "labels": 20, "accuracy": 0.69}]
    (tmp_path / "other.json").write_text(json.dumps(ROWS + more))
    mark = "<!-- overview some other\n/a/b/c = a test\n-->\n"
    # Seed 0 is ahead by 3 points, or by 3 and 9, seed 1 by 1.
    assert evidence.page(f"{mark}<!-- end of table -->") == (
        f"{mark}"
        "| strategy | some | other |\n"
        "| --- | --- | --- |\n"
        "| `/a/b/c` (a test) | +2.0 ± 1.0 | +3.5 ± 2.5 |\n"
        "<!-- end of table -->"
    )


def test_an_overview_may_have_some_rounds_alone_and_random_by_its_accuracy(rows, tmp_path):
    more = [
        {"strategy": "/a/b/c", "seed": seed, "round": 1, "labels": 20, "accuracy": 0.69 + 0.1 * seed} for seed in (0, 1)
    ]
    more.append({"strategy": "random", "seed": 1, "round": 1, "labels": 20, "accuracy": 0.60})
    (tmp_path / "some.json").write_text(json.dumps(ROWS + more))
    mark = "<!-- overview some 20\nrandom\n/a/b/c\n-->\n"
    assert evidence.page(f"{mark}<!-- end of table -->") == (
        f"{mark}"
        "| strategy | some |\n"
        "| --- | --- |\n"
        "| `random` | 60.0 |\n"
        "| `/a/b/c` | +14.0 ± 5.0 |\n"  # ahead by 9 and by 19 points
        "<!-- end of table -->"
    )
