import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import readme, reference
from benchmarks.images import colour_images
from benchmarks.measure import Measure, cells, limit, percentile, ratio, read, write


def test_a_ratio_is_held_against_its_floor() -> None:
    assert ratio("a", "s", reference=100, ours=2, budget=50).met
    assert not ratio("a", "s", reference=100, ours=2.1, budget=50).met


def test_an_amount_is_held_against_its_ceiling() -> None:
    assert limit("a", "ms", 100, 100).met
    assert not limit("a", "ms", 101, 100).met
    assert limit("a", "ms", 1e9, None).met  # there to be read


def test_growth_is_held_against_its_ceiling_though_it_has_a_reference() -> None:
    grown = Measure("a", "ms", ours=4, value=2, budget=1.5, bound="ceiling", reference=2)
    assert not grown.met
    assert cells([grown])[0][1:6] == ("2 ms", "4 ms", "2x", "≤ 1.5x", "NO")


def test_cells_say_reference_ours_ratio_and_budget() -> None:
    (row,) = cells([ratio("recording", "s", 4800, 60, 40, "note")])
    assert row == ("recording", "4,800 s", "60 s", "80x", "≥ 40x", "yes", "note")


def test_percentile_is_the_value_that_a_share_lies_below() -> None:
    assert percentile(list(range(101)), 0.99) == 99


def test_results_name_machine_versions_and_commit(tmp_path: Path) -> None:
    path, measure = tmp_path / "results.json", limit("a", "s", 1, 2)
    write(path, "growth", [measure], 1.234)
    content = json.loads(path.read_text())["growth"]
    assert content["machine"]["cores"] >= 1
    assert content["versions"]["torch"]
    assert content["seconds"] == 1.2
    assert content["measures"][0]["met"] is True


def test_results_of_one_part_leave_those_of_the_others(tmp_path: Path) -> None:
    path, old, new = tmp_path / "results.json", limit("a", "s", 1, 2), limit("b", "s", 1, 2)
    write(path, "growth", [old], 1)
    write(path, "pretext", [old], 1)
    write(path, "growth", [new], 1)
    assert read(path, ["pretext", "growth", "recording"]) == [old, new]


def test_the_readmes_table_is_replaced_and_the_rest_of_it_kept(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.update([limit("a", "s", 1, 2)], page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| a |  | 1 s |  | ≤ 2 s |" in text


def test_the_reference_turns_an_image_into_its_four_orientations(tmp_path: Path) -> None:
    (pixels,) = colour_images(1, 8, seed=0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    views = reference.RotatedFiles([tmp_path / "a.png"])[0]
    for turn, view in enumerate(views):
        np.testing.assert_allclose(view.permute(1, 2, 0).numpy(), np.rot90(pixels, turn) / 255, atol=1e-6)


def test_the_references_pace_gives_the_seconds_of_the_whole_work() -> None:
    assert reference.Pace(train=0.5, extract=0.25).seconds(100, epochs=2) == pytest.approx(125)
