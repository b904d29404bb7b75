import json
import re

import numpy as np
import pytest
from PIL import Image

from model.bank import ImageBank
from model.curves import Row
from model.errors import BadInput
from model.report import asked, curves, ranks
from model.report.__main__ import main, report
from model.report.chart import Chart, Trace
from model.report.page import write_page
from model.report.picture import write_png

STRATEGIES = ("random", "//typical/margin")


def row(strategy, seed, number, accuracy, **more):
    return Row(strategy=strategy, seed=seed, round=number, labels=10 * (number + 1), accuracy=accuracy, **more)


ROWS = [
    row("random", 0, 0, 0.50, asked=[4, 6]), row("random", 1, 0, 0.60, asked=[6, 4]),
    row("random", 0, 1, 0.60, asked=[5, 5]), row("random", 1, 1, 0.70, asked=[5, 5]),
    row("//typical/margin", 0, 0, 0.52, asked=[8, 2]), row("//typical/margin", 1, 0, 0.66, asked=[10, 0]),
]  # fmt: skip


def by_name(charts):
    return {chart.name: chart for chart in charts}


def test_learning_curves_are_means_in_percent_with_a_band_of_one_deviation():
    chart = by_name(curves.charts(ROWS))["learning-curves"]
    random, typical = chart.traces
    assert (random.name, random.x, random.y) == ("random", [10, 20], pytest.approx([55, 65]))
    assert random.spread == pytest.approx([100 * np.std([0.5, 0.6], ddof=1)] * 2)
    assert typical.y == pytest.approx([59])
    assert "2 seeds" in chart.note


def test_differences_are_paired_by_seed_and_leave_random_out():
    (trace,) = by_name(curves.charts(ROWS))["difference-to-random"].traces
    assert trace.name == "//typical/margin"
    assert trace.y == pytest.approx([4])  # the mean of 2 and 6
    assert trace.spread == pytest.approx([100 * np.std([0.02, 0.06], ddof=1)])


def test_class_histograms_are_means_over_the_seeds():
    chart = by_name(curves.charts(ROWS))["classes-01"]
    assert chart.title.endswith("//typical/margin")
    assert [trace.y for trace in chart.traces] == [[9], [1]]


def test_results_without_histograms_or_another_set_have_no_chart_of_them():
    old = [row("random", 0, 0, 0.5)]
    assert set(by_name(curves.charts(old))) == {"learning-curves"}
    mixed = [row("random", 0, 0, 0.5, foreign=0.25)]
    assert by_name(curves.charts(mixed))["foreign"].traces[0].y == [25]


@pytest.fixture
def work(tmp_path):
    """The work folder of a simulation of forty images, without running one."""
    from model.pretext import train_pretext

    folder = tmp_path / "r.work" / "seed-0"
    generator = np.random.default_rng(0)
    bank = ImageBank.create(folder / "pool", 16)
    bank.append(generator.integers(0, 256, (40, 16, 16, 3), np.uint8))
    (folder / "pool" / "complete").touch()
    pretext = folder / "pretext-rotation"
    pretext.mkdir()
    train_pretext("rotation", bank, out=pretext / "weights.pt", checkpoint=pretext / "c.pt", epochs=1, device="cpu")
    for name, rounds in (("random", [[0, 1, 2, 3], [4, 5]]), ("//typical/margin", [[2, 3, 8, 9], [10, 4]])):
        (folder / name.replace("/", "+")).mkdir()
        for number, indices in enumerate(rounds):
            np.save(folder / name.replace("/", "+") / f"asked-{number:03d}.npy", np.array(indices))
    return tmp_path / "r.work"


ONE_SEED = [row(name, 0, number, 0.5, asked=[1, 1]) for name in STRATEGIES for number in range(2)]


def test_overlap_is_the_share_that_another_strategy_asked_too(work):
    found = by_name(asked.charts(ONE_SEED, work, "cpu"))
    assert found["overlap-first"].traces[0].values == [[100, 50], [50, 100]]
    assert found["overlap"].traces[0].values == [[100, 50], [50, 100]]  # 2, 3 and 4 of six


def test_maps_show_every_strategy_on_the_same_places(work):
    found = by_name(asked.charts(ONE_SEED, work, "cpu"))
    pools = [found[f"map-{number:02d}"].traces[0] for number in range(2)]
    assert (pools[0].x, pools[0].y) == (pools[1].x, pools[1].y)
    assert len(pools[0].x) == 40
    assert [len(trace.x) for trace in found["map-01"].traces[1:]] == [4, 2]
    first = found["map-00"].traces[1]
    places = list(zip(pools[0].x, pools[0].y, strict=True))
    assert list(zip(first.x, first.y, strict=True)) == [places[index] for index in (0, 1, 2, 3)]


def test_charts_of_what_was_asked_are_left_out_where_the_work_folder_is_gone(tmp_path):
    assert asked.charts(ONE_SEED, tmp_path / "nothing", "cpu") == []


def measured(task, seed, rho, **more):
    fixed = {"labels": 10, "images": 3, "rho_test": None, "accuracy": 0.5, "seconds": 1.0, "error": None}
    return {"task": task, "seed": seed, "rho": rho, **fixed, **more}


def test_rank_charts_put_ranks_against_ranks(tmp_path):
    (tmp_path / "seed-1").mkdir()
    losses = {"pretext": np.array([0.1, 5.0, 1.0]), "main": np.array([3.0, 2.0, 1.0]), "label": np.zeros(3)}
    np.savez(tmp_path / "seed-1" / "h1-vae.npz", **losses)
    rows = [measured("vae", 0, 0.2), measured("vae", 1, 0.4), measured("colorization", 0, None, error="grey")]
    found = by_name(ranks.charts(rows, tmp_path))
    assert [list(trace.x) for trace in found["rho"].traces] == [["vae"]]  # nothing is known of test images
    assert found["rho"].traces[0].y == pytest.approx([0.3])
    points = sorted(zip(found["ranks-vae"].traces[0].x, found["ranks-vae"].traces[0].y, strict=True))
    np.testing.assert_allclose(points, [(0, 2 / 3), (1 / 3, 0), (2 / 3, 1 / 3)])
    assert "seed 1" in found["ranks-vae"].note
    assert "ranks-colorization" not in found


KINDS = [
    Chart("a", "lines", "line", "x", "y", [Trace("one", [1, 2], [3, 4], spread=[1, 1])], zero=True),
    Chart("b", "points", "points", "x", "y", [Trace("one", [1, 2], [3, 4]), Trace("two", [1], [2])]),
    Chart("c", "bars", "bars", "x", "y", [Trace("one", ["u", "v"], [3, 4])]),
    Chart("d", "cells", "cells", "", "", [Trace("one", ["u", "v"], ["w"], values=[[10.0, 90.0]])]),
]


@pytest.mark.parametrize("chart", KINDS, ids=[chart.kind for chart in KINDS])
def test_a_chart_of_every_kind_becomes_a_picture(tmp_path, chart):
    path = write_png(chart, tmp_path)
    with Image.open(path) as picture:
        assert picture.size == (960, 600)
        assert len(picture.convert("RGB").getcolors(2**24)) > 50  # axes, text and colour: not an empty canvas


def test_the_page_holds_script_and_every_chart_and_nothing_from_elsewhere(tmp_path):
    write_page(tmp_path / "index.html", "<results>", "pool 10", KINDS, "a < b")
    page = (tmp_path / "index.html").read_text()
    assert "&lt;results&gt;" in page
    assert "a &lt; b" in page
    assert "Plotly.newPlot" in page
    assert len(page) > 1_000_000  # Plotly itself
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    charts = json.loads(re.findall(r"for \(const chart of (.*)\) Plotly.newPlot", page)[0])
    assert [chart["id"] for chart in charts] == ["a", "b", "c", "d"]
    assert charts[0]["data"][0]["y"] == [2, 3, 5, 4]  # the band: low, then high backwards
    assert charts[3]["data"][0]["z"] == [[10, 90]]


def test_a_name_cannot_end_the_pages_script(tmp_path):
    chart = Chart("a", "t", "line", "x", "y", [Trace("</script><b>", [1], [2])])
    write_page(tmp_path / "index.html", "t", "", [chart], "")
    assert "</script><b>" not in (tmp_path / "index.html").read_text()


def test_the_command_draws_a_simulation_and_a_measurement(work, tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps(ONE_SEED))
    (tmp_path / "h.json").write_text(json.dumps([measured("vae", 0, 0.2)]))
    assert main([str(tmp_path / "r.json"), str(tmp_path / "h.json"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.report" / "index.html") for name in "rh"]
    pictures = {path.stem for path in (tmp_path / "r.report").glob("*.png")}
    assert {"learning-curves", "classes-00", "overlap", "map-01"} <= pictures
    assert {path.stem for path in (tmp_path / "h.report").glob("*.png")} == {"rho"}


@pytest.mark.parametrize("content", ["no json", "[]", "{}", "[1]", '[{"a": 1}]'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BadInput, match="results"):
        report(tmp_path / "r.json", tmp_path / "out")
