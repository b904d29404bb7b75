import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import readme, reference
from benchmarks.images import PHOTO, class_of_photo, colour_images, photo
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
    assert [measure for measure, _ in read(path, ["pretext", "growth", "recording"])] == [old, new]


def table_of(tmp_path: Path, *machines: str) -> str:
    """The README's table of a measure on each of these machines."""
    page, results = tmp_path / "README.md", tmp_path / "results.json"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    parts = [f"part {number}" for number in range(len(machines))]
    for part in parts:
        write(results, part, [limit(f"a of {part}", "s", 1, 2)], 1)
    content = json.loads(results.read_text())
    for part, machine in zip(parts, machines, strict=True):
        content[part]["machine"] = {"processor": machine, "vectors": "AVX2", "cores": 2}
    results.write_text(json.dumps(content))
    readme.update(results, parts, page)
    return page.read_text()


def test_the_readmes_table_is_replaced_and_the_rest_of_it_kept(tmp_path: Path) -> None:
    text = table_of(tmp_path, "Xeon", "Xeon")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| a of part 0 |  | 1 s |  | ≤ 2 s |\n| a of part 1 |" in text
    assert "Measured by `make bench` on Xeon, AVX2, 2 cores, no GPU." in text


def test_the_readmes_table_names_the_processor_of_each_row_where_there_are_several(tmp_path: Path) -> None:
    text = table_of(tmp_path, "Xeon", "EPYC")
    assert "| a of part 0 |  | 1 s |  | ≤ 2 s | Xeon, AVX2, 2 cores |" in text
    assert "| a of part 1 |  | 1 s |  | ≤ 2 s | EPYC, AVX2, 2 cores |" in text


def test_the_reference_turns_an_image_into_its_four_orientations(tmp_path: Path) -> None:
    (pixels,) = colour_images(1, 8, seed=0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    views = reference.RotatedFiles([tmp_path / "a.png"])[0]
    for turn, view in enumerate(views):
        np.testing.assert_allclose(view.permute(1, 2, 0).numpy(), np.rot90(pixels, turn) / 255, atol=1e-6)


def test_the_references_pace_gives_the_seconds_of_the_whole_work() -> None:
    assert reference.Pace(train=0.5, extract=0.25).seconds(100, epochs=2) == pytest.approx(125)


def test_a_photo_is_a_file_of_its_class_and_the_same_each_time() -> None:
    assert photo(5) == photo(5)
    assert photo(5) != photo(9)
    assert Image.open(io.BytesIO(photo(5))).size == PHOTO
    assert (class_of_photo(5), class_of_photo(9), class_of_photo(6)) == ("china right", "china right", "flower left")
