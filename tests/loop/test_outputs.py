"""What a model has said of a pool that has grown since."""

from pathlib import Path

import numpy as np

from backend.loop.steps.outputs import load_outputs, save_outputs
from backend.project_files import Files
from backend.store import RoundRow
from model.problems.segmentation import COLUMNS, GRID
from model.querying.outputs import Outputs


def test_masks_of_a_pool_are_not_copied_for_samplers_that_do_not_read_them(tmp_path: Path) -> None:
    files = Files.of(tmp_path, 1)
    files.folder.mkdir(parents=True, exist_ok=True)
    maps, values = np.zeros((3, GRID, GRID), np.uint8), np.arange(3 * COLUMNS, dtype=np.float32).reshape(3, COLUMNS)
    row = RoundRow(number=0, has_model=True, problem="segmentation", classes=["road"])
    save_outputs(files, 0, Outputs(class_maps=maps, values=values))
    outputs = load_outputs(files, row, 5)
    assert outputs is not None
    assert outputs.class_maps is None
    assert np.allclose(outputs.values[:3], values)
    assert len(outputs.values) == 5
    asked = load_outputs(files, row, 5, needs=frozenset({"class_maps"}))
    assert asked is not None
    assert asked.class_maps is not None
    assert len(asked.class_maps) == 5
    files.output(0, "class_maps").unlink()
    assert load_outputs(files, row, 5) is None
