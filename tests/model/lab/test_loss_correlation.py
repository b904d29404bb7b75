import json

import numpy as np
import pytest

from model.evaluation.metrics import spearman
from model.lab.loss_correlation import TaskCorrelation, cross_entropy, main, table
from model.training.loop import read_weights

ARGUMENTS = "--data digits --pool 150 --test 80 --seeds 1 --epochs 2 --pretext-epochs 1 --device cpu"


def run(path, tasks, *more):
    return main([*ARGUMENTS.split(), "--tasks", tasks, "--json", str(path), *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("h1") / "h1.json"
    assert run(path, "rotation,colorization,vae") == 0
    return path


def test_every_task_is_measured_on_what_the_main_model_has_not_seen(finished):
    rows = json.loads(finished.read_text())
    assert [row["task"] for row in rows] == ["rotation", "colorization", "vae"]
    assert {(row["labels"], row["images"]) for row in rows} == {(30, 120)}
    assert len({row["accuracy"] for row in rows}) == 1  # one main model serves every task


def test_rho_is_that_of_the_losses_kept_for_the_report(finished):
    rows = json.loads(finished.read_text())
    with np.load(finished.with_suffix(".work") / "seed-0" / "h1-rotation.npz") as kept:
        assert rows[0]["rho"] == pytest.approx(spearman(kept["pretext"], kept["main"]))
        assert kept["label"].shape == (120,)
    assert -1 <= rows[0]["rho_test"] <= 1


def test_a_task_that_refuses_the_images_is_noted_with_its_reason(finished):
    row = json.loads(finished.read_text())[1]
    assert (row["rho"], row["rho_test"]) == (None, None)
    assert "learns from colours" in row["error"]


def test_measurement_that_was_stopped_goes_on(finished, capsys):
    rows = json.loads(finished.read_text())
    finished.write_text(json.dumps(rows[:-1]))
    assert run(finished, "rotation,colorization,vae") == 0
    again = json.loads(finished.read_text())
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]
    measured = [line for line in capsys.readouterr().err.splitlines() if "  rho " in line]
    assert [line.split()[0] for line in measured] == ["vae"]


def test_a_task_by_another_recipe_is_measured_against_the_same_main_model(finished, tmp_path):
    assert run(tmp_path / "h1.json", "rotation@paper") == 0
    (row,) = json.loads((tmp_path / "h1.json").read_text())
    assert (row["task"], row["accuracy"]) == ("rotation@paper", json.loads(finished.read_text())[0]["accuracy"])
    weights = tmp_path / "h1.work" / "seed-0" / "pretext-rotation@paper" / "weights.pt"
    assert read_weights(weights)["network"] == "resnet18"


def test_an_unknown_task_and_a_pool_without_rest_are_refused(tmp_path, capsys):
    assert run(tmp_path / "a.json", "origami") == 2
    assert run(tmp_path / "b.json", "rotation", "--labels", "150") == 2
    errors = capsys.readouterr().err
    assert "unknown pretext task 'origami'" in errors
    assert "nothing left to measure on" in errors
    assert run(tmp_path / "b.json", "vae", "--network", "origami") == 2
    assert "unknown network 'origami'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("setting.json"))  # the file is free for another configuration


def test_cross_entropy_is_finite_where_a_posterior_is_zero():
    losses = cross_entropy(np.array([[0.25, 0.75], [0.0, 1.0]], np.float32), np.array([0, 0]))
    assert losses[0] == pytest.approx(np.log(4))
    assert losses[1] == pytest.approx(87.34, abs=0.01)


def test_table_has_mean_and_deviation_over_the_seeds():
    rows = [
        TaskCorrelation(
            task="vae", seed=s, labels=1, images=1, rho=r, rho_test=None, accuracy=0.0, seconds=0.0, error=None
        )
        for s, r in ((0, 0.2), (1, 0.4))
    ]
    assert table(rows).splitlines()[1].split() == ["vae", "2", "+0.300", "0.141", "-", "-"]
