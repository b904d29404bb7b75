import json
import shutil

from model.lab.cost import CostRow, main, table

ARGUMENTS = "--data digits --pool 40 --test 10 --rounds 1 --k 12 --seeds 1 --threads 1"


def test_the_whole_loop_is_timed_part_by_part_from_nothing(tmp_path, encoders, monkeypatch, capsys):
    path = tmp_path / "cost.json"
    shutil.copytree(encoders, path.with_suffix(".work") / "encoders")
    monkeypatch.setattr("model.lab.experiment.Experiment.test", None)  # nothing is measured
    own = "rotation/high_first/even/least_confidence/none/scratch/own"
    arguments = [*ARGUMENTS.split(), "--learner", "linear", "--pretext-epochs", "1", "--json", str(path)]
    assert main([*arguments, "--strategies", f"random,{own}"]) == 0
    rows = {row["strategy"]: row for row in json.loads(path.read_text())}
    assert [(row["rounds"], row["labels"]) for row in rows.values()] == [(1, 12)] * 2
    assert [row["losses"] > 0.01 for row in rows.values()] == [False, True]
    assert [row["features"] > 0.01 for row in rows.values()] == [True, False]
    assert all(row["trainings"] > 0 for row in rows.values())
    printed = capsys.readouterr().out.splitlines()
    assert (printed[1].split()[0], printed[1].split()[-1]) == ("random", "1.00")
    assert main([*arguments, "--strategies", "random"]) == 0
    assert len(json.loads(path.read_text())) == 2, "what is timed already is not timed again"


def cost(strategy, seed, losses, trainings):
    return CostRow(strategy=strategy, seed=seed, rounds=2, labels=24, features=1.0, losses=losses, queries=0.5,
                   trainings=trainings, device="cpu")  # fmt: skip


def test_costs_are_means_over_the_seeds_against_random():
    rows = [cost("random", 0, 0.0, 2.5), cost("random", 1, 0.0, 4.5), cost("default", 0, 3.0, 5.5)]
    lines = table(rows).splitlines()
    assert lines[1].split() == ["random", "2", "24", "1.0", "0.0", "0.5", "3.5", "5.0", "1.00"]
    assert lines[2].split()[-2:] == ["10.0", "2.00"]
    assert table(rows[2:]).splitlines()[1].split()[-1] == "-"


def test_a_bad_strategy_is_refused_in_one_line(tmp_path, capsys):
    assert main([*ARGUMENTS.split(), "--strategies", "///best", "--json", str(tmp_path / "c.json")]) == 2
    assert "unknown sampler 'best'" in capsys.readouterr().err
