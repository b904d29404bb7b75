import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from model.data.bank import ImageBank
from model.errors import BadInput
from model.lab.learning_curves import RoundRow
from model.lab.report import asked, curves, ranks
from model.lab.report.__main__ import main, report
from model.lab.report.chart import Chart, Trace
from model.lab.report.page import write_page
from model.lab.report.picture import draw

STRATEGIES = ("random", "//typical/margin")


def row(strategy, seed, number, accuracy, **more):
    return RoundRow(strategy=strategy, seed=seed, round=number, labels=10 * (number + 1), accuracy=accuracy, **more)


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
    assert chart.note.startswith("Mean over 2 seeds;")


def test_learning_curves_say_how_many_seeds_each_has_where_they_differ():
    fewer = [entry for entry in ROWS if (entry["strategy"], entry["seed"]) != ("//typical/margin", 1)]
    chart = by_name(curves.charts(fewer))["learning-curves"]
    assert [trace.name for trace in chart.traces] == ["random (2 seeds)", "//typical/margin (1 seed)"]
    assert chart.note.startswith("Mean over 1 to 2 seeds, see the number after the name;")


def test_differences_are_paired_by_seed_and_leave_random_out():
    (trace,) = by_name(curves.charts(ROWS))["difference-to-random"].traces
    assert trace.name == "//typical/margin"
    assert trace.y == pytest.approx([4])  # the mean of 2 and 6
    assert trace.spread == pytest.approx([100 * np.std([0.02, 0.06], ddof=1)])


def test_class_histograms_are_means_over_the_seeds():
    chart = by_name(curves.charts(ROWS))["classes-01"]
    assert chart.title.endswith("//typical/margin")
    assert [trace.y for trace in chart.traces] == [[9], [1]]


def test_class_histograms_name_the_classes_and_count_the_images_of_another_set():
    """Of ten images a round, two have no class; of the round after, all ten."""
    mixed = [row("random", 0, 0, 0.5, asked=[4, 4], foreign=0.2), row("random", 0, 1, 0.5, asked=[0, 0], foreign=1.0)]
    chart = by_name(curves.charts(mixed, ["cat", "dog"]))["classes-00"]
    assert [(trace.name, list(trace.y)) for trace in chart.traces] == [
        ("cat", [4, 0]), ("dog", [4, 0]), ("of the other set", [2, 10]),
    ]  # fmt: skip


def test_class_histograms_of_many_classes_show_the_most_asked_and_the_rest_together():
    asked_of = [0, 5, 1, 9, 8, 7, 6, 5, 4, 3, 2, 11]
    chart = by_name(curves.charts([row("random", 0, 0, 0.5, asked=asked_of)]))["classes-00"]
    assert [trace.name for trace in chart.traces] == [
        *(f"class {c}" for c in (1, 3, 4, 5, 6, 7, 8, 9, 11)), "3 other classes",
    ]  # fmt: skip
    assert chart.traces[-1].y == [3]


def test_many_curves_are_shared_out_over_charts_with_random_in_each_and_no_two_alike():
    names = [*(f"s{number}" for number in range(12)), "random"]
    found = by_name(curves.charts([row(name, 0, 0, 0.5) for name in names]))
    first, second = found["learning-curves"], found["learning-curves-2"]
    assert [trace.name for trace in first.traces] == ["s0", "s1", "s2", "s3", "s4", "s5", "random"]
    assert [trace.name for trace in second.traces] == ["s6", "s7", "s8", "s9", "s10", "s11", "random"]
    assert second.title == "Learning curves (2 of 2)"
    looks = {(t.colour, t.dash, t.marker) for chart in (first, second) for t in chart.traces}
    assert len(looks) == 13
    assert [trace.name for trace in found["difference-to-random-2"].traces] == ["s6", "s7", "s8", "s9", "s10", "s11"]
    same = {trace.name: trace.colour for trace in found["difference-to-random-2"].traces}
    assert same == {trace.name: trace.colour for trace in second.traces[:-1]}


def test_results_without_histograms_or_another_set_have_no_chart_of_them():
    old = [row("random", 0, 0, 0.5)]
    assert set(by_name(curves.charts(old))) == {"learning-curves"}
    mixed = [row("random", 0, 0, 0.5, foreign=0.25)]
    assert by_name(curves.charts(mixed))["foreign"].traces[0].y == [25]


@pytest.fixture
def work(tmp_path):
    """The work folder of a simulation of forty images, without running one."""
    from model.pretext.run import train_pretext

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
    assert found["overlap-first"].note.endswith("Chance alone gives 10.")  # 4 of 40
    assert found["overlap"].note.endswith("Chance alone gives 15.")


def test_maps_show_every_strategy_on_the_same_places(work):
    found = by_name(asked.charts(ONE_SEED, work, "cpu"))
    pools = [found[f"map-{number:02d}"].traces[0] for number in range(2)]
    assert (pools[0].x, pools[0].y) == (pools[1].x, pools[1].y)
    assert len(pools[0].x) == 40
    assert [len(trace.x) for trace in found["map-01"].traces[1:]] == [4, 2]
    assert len({trace.marker for trace in found["map-01"].traces[1:]}) == 2
    first = found["map-00"].traces[1]
    places = list(zip(pools[0].x, pools[0].y, strict=True))
    assert list(zip(first.x, first.y, strict=True)) == [places[index] for index in (0, 1, 2, 3)]


def test_maps_name_the_network_whose_features_they_show(work):
    note = by_name(asked.charts(ONE_SEED, work, "cpu"))["map-00"].note
    assert "pretext network 'rotation'" in note
    assert "are marked" not in note
    (work / "seed-0" / "pretext-barlow_twins").mkdir()
    (work / "seed-0" / "pretext-barlow_twins" / "weights.pt").touch()  # the first by name is not the one
    assert "pretext network 'rotation'" in by_name(asked.charts(ONE_SEED, work, "cpu"))["map-00"].note


def test_maps_mark_as_many_images_of_every_strategy_and_say_so_where_they_leave_some_out(work, monkeypatch):
    monkeypatch.setattr("model.lab.report.asked.FEWEST_MARKED", 2)
    monkeypatch.setattr("model.lab.report.asked.MOST_MAPPED", 24)
    found = by_name(asked.charts(ONE_SEED, work, "cpu"))
    assert [len(trace.x) for trace in found["map-00"].traces] == [24, 2, 2]
    assert [len(trace.x) for trace in found["map-01"].traces] == [24, 2, 2]
    assert found["map-00"].note.endswith("2 images of a round are marked, drawn from all that it asked.")


def test_maps_compute_features_of_nothing_but_the_images_drawn(work, monkeypatch):
    import model.pretext.run

    monkeypatch.setattr("model.lab.report.asked.MOST_MAPPED", 24)
    sizes, extract = [], model.pretext.run.extract_embeddings
    monkeypatch.setattr(
        "model.pretext.run.extract_embeddings", lambda bank, *a, **k: sizes.append(len(bank)) or extract(bank, *a, **k)
    )
    asked.charts(ONE_SEED, work, "cpu")
    assert sizes == [24]


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
def test_a_chart_of_every_kind_becomes_a_picture(chart):
    with Image.open(io.BytesIO(draw(chart))) as picture:
        assert picture.size[1] == 600
        assert (picture.size[0] > 960) is (len(chart.traces) > 1)  # room for a legend beside the axes
        assert len(picture.convert("RGB").getcolors(2**24)) > 50  # axes, text and colour: not an empty canvas


def test_the_page_holds_every_picture_and_nothing_from_elsewhere(tmp_path):
    pictures = {chart.name: f"picture {chart.name}".encode() for chart in KINDS}
    write_page(tmp_path / "index.html", "<results>", "pool 10", "a < b", KINDS, pictures)
    page = (tmp_path / "index.html").read_text()
    assert "&lt;results&gt;" in page
    assert "a &lt; b" in page
    shown = re.findall(r'<img id="(.)" alt="(\w+)\. " src="data:image/png;base64,([^"]+)">', page)
    assert [(name, title) for name, title, _ in shown] == [(chart.name, chart.title) for chart in KINDS]
    assert [base64.b64decode(content) for _, _, content in shown] == list(pictures.values())
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)


def test_a_title_cannot_end_its_attribute(tmp_path):
    chart = Chart("a", '"><script>', "line", "x", "y", [Trace("one", [1], [2])])
    write_page(tmp_path / "index.html", "t", "", "", [chart], {"a": b""})
    assert "<script>" not in (tmp_path / "index.html").read_text()


def test_the_command_draws_a_simulation_and_a_measurement(work, tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps(ONE_SEED))
    (tmp_path / "h.json").write_text(json.dumps([measured("vae", 0, 0.2)]))
    assert main([str(tmp_path / "r.json"), str(tmp_path / "h.json"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.report" / "index.html") for name in "rh"]
    pictures = {path.stem: path.read_bytes() for path in (tmp_path / "r.report").glob("*.png")}
    assert {"learning-curves", "classes-00", "overlap", "map-01"} <= set(pictures)
    page = (tmp_path / "r.report" / "index.html").read_text()
    assert all(base64.b64encode(picture).decode() in page for picture in pictures.values())
    assert {path.stem for path in (tmp_path / "h.report").glob("*.png")} == {"rho"}


def test_files_of_one_name_are_drawn_into_folders_of_their_own(tmp_path, capsys):
    paths = [tmp_path / name / "res.json" for name in ("a", "b", "c")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(json.dumps([row(f"s{number}", 0, 0, 0.5)]))
    assert main([*map(str, paths), "--out", str(tmp_path / "X")]) == 0
    pages = [tmp_path / "X" / name / "index.html" for name in ("res", "res-2", "res-3")]
    assert capsys.readouterr().out.split() == [str(page) for page in pages]
    assert [f"s{number}" in page.read_text().split("<pre>")[1][:400] for number, page in enumerate(pages)] == [True] * 3


@pytest.mark.parametrize(("whole", "ticks"), [(True, [0, 1]), (False, [0, 0.2, 0.4, 0.6, 0.8, 1])])
def test_only_a_chart_over_rounds_keeps_to_whole_numbers(monkeypatch, whole, ticks):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    draw(Chart("a", "t", "line", "round", "y", [Trace("one", [0, 1], [3, 4])], whole=whole))
    (axes,) = drawn[0].axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == pytest.approx(ticks)


FOREIGN = [
    "no json", "[]", "{}", "[1]", '[{"a": 1}]', '[{"strategy": "random", "round": 0}]', '[{"task": "vae"}]',
    '[{"strategy": "random", "seed": 0, "round": 0, "labels": "many", "accuracy": 0.5}]',
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BadInput, match="results"):
        report(tmp_path / "r.json", tmp_path / "out")
