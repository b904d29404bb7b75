import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.errors import BadInput, UnknownName
from model.lab.experiment import ExperimentConfig
from model.lab.learning_curves import RoundRow
from model.lab.results import Results
from model.lab.simulate import Strategy, _done, main, parse_strategy

CONFIG = ExperimentConfig(data="digits", rounds=2, k=10)


def test_parse_strategy_reads_four_parts():
    strategy = parse_strategy("rotation/high_first/top/margin")
    assert strategy == Strategy("rotation/high_first/top/margin", "rotation", "high_first", "top", "margin")


def test_parse_strategy_fills_empty_parts_with_the_defaults():
    strategy, default = parse_strategy("/low_first//"), parse_strategy("default")
    assert strategy.order == "low_first"
    assert (strategy.pretext, strategy.first_query, strategy.sampler) == (
        default.pretext,
        default.first_query,
        default.sampler,
    )


def test_parse_strategy_reads_joint_training_as_a_fifth_part():
    assert parse_strategy("////barlow_twins").joint == "barlow_twins"
    assert parse_strategy("///margin").joint == "none"


def test_parse_strategy_reads_where_weights_start_as_a_sixth_part():
    assert parse_strategy("/////scratch") == Strategy("/////scratch", init="scratch")
    assert parse_strategy("////barlow_twins/").init is None


def test_parse_strategy_random_asks_the_whole_pool_at_random():
    strategy = parse_strategy("random")
    assert (strategy.order, strategy.first_query, strategy.sampler) == ("none", "random", "random")


def test_strategy_asks_as_the_problem_does_unless_it_names_a_sampler():
    default = parse_strategy("default")
    assert [default.sampler_of(name) for name in ("single_label", "segmentation")] == [
        "uncertainty_herding",
        "region_herding",
    ]
    assert parse_strategy("///margin").sampler_of("segmentation") == "margin"


def test_parse_strategy_refuses_another_form():
    for name in ("margin", "a/b/c/d/e/f/g/h"):
        with pytest.raises(BadInput, match="pretext/batch_order/first_query/sampler"):
            parse_strategy(name)


@pytest.mark.parametrize(
    "name", ["origami///", "/upward//", "//best/", "///best", "////best", "/////best", "//////best"]
)
def test_strategy_with_an_unknown_part_is_refused(name):
    with pytest.raises(UnknownName):
        parse_strategy(name).query_settings(CONFIG, 10)


def test_parse_strategy_reads_the_learner_as_a_seventh_part():
    assert parse_strategy("//////linear") == Strategy("//////linear", learner="linear")
    assert parse_strategy("/////scratch/own").learner == "own"


@pytest.mark.parametrize(
    ("name", "changed", "learner"),
    [
        ("default", {}, "auto"),
        ("///margin", {}, "auto"),
        ("default", {"learner": "linear"}, "linear"),
        ("//////own", {"learner": "linear"}, "own"),
        ("default", {"encoder": "none"}, "own"),
        ("default", {"network": "compact"}, "own"),
        ("default", {"recipe": "paper"}, "own"),
        ("default", {"epochs": 3}, "own"),
        ("/////scratch", {}, "own"),
        ("////barlow_twins", {}, "own"),
        ("///bald", {}, "own"),
    ],
)
def test_auto_is_a_network_of_our_own_where_only_that_can_follow(name, changed, learner):
    assert parse_strategy(name).learner_of(replace(CONFIG, **changed)) == learner


@pytest.mark.parametrize("name", ["///bald///linear", "/////scratch/linear", "////barlow_twins//linear"])
def test_a_linear_learner_refuses_what_it_cannot_follow(name):
    with pytest.raises(BadInput, match="'linear' does not go with"):
        parse_strategy(name).query_settings(CONFIG, 10)


def row(strategy, seed, number):
    return RoundRow(strategy=strategy, seed=seed, round=number, labels=10, accuracy=0.5)


def test_rounds_done_are_those_without_a_gap():
    rows = [row("a", 0, 0), row("a", 0, 1), row("a", 1, 0), row("a", 1, 2)]
    assert [_done(rows, name, seed) for name, seed in (("a", 0), ("a", 1), ("b", 0))] == [2, 1, 0]


ARGUMENTS = "--data digits --pool 200 --test 200 --rounds 3 --k 15 --seeds 1 --epochs 8 --pretext-epochs 2 --threads 1"


def run(path, strategies, *more):
    return main([*ARGUMENTS.split(), "--strategies", strategies, "--json", str(path), *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    import torch

    path, threads = tmp_path_factory.mktemp("simulation") / "results.json", torch.get_num_threads()
    assert run(path, "random,/interleaved/even/least_confidence") == 0
    yield path
    torch.set_num_threads(threads)


def test_simulation_measures_every_strategy_after_every_round(finished):
    rows = json.loads(finished.read_text())
    expected = [(s, 0, n, 15 * (n + 1)) for s in ("random", "/interleaved/even/least_confidence") for n in range(3)]
    assert [(r["strategy"], r["seed"], r["round"], r["labels"]) for r in rows] == expected
    assert set(rows[0]) == {"strategy", "seed", "round", "labels", "accuracy", "asked"}
    assert rows[-1]["accuracy"] > 0.3  # 45 labels of ten digits: far above a tenth


def test_simulation_is_not_run_again_when_it_is_finished(finished, capsys):
    before = finished.read_text()
    assert run(finished, "random") == 0
    assert finished.read_text() == before
    assert "seed 0" not in capsys.readouterr().err


def test_simulation_that_was_stopped_goes_on_to_the_same_figures(finished, capsys):
    rows = json.loads(finished.read_text())
    finished.write_text(json.dumps(rows[:-1]))
    assert run(finished, "random,/interleaved/even/least_confidence") == 0
    assert json.loads(finished.read_text()) == rows
    assert capsys.readouterr().err.count("round 2") == 1


def test_simulation_of_the_first_rounds_can_be_continued(finished, tmp_path):
    first = tmp_path / "results.json"
    assert run(first, "random", "--stop-after", "1") == 0
    assert [row["round"] for row in json.loads(first.read_text())] == [0]
    assert run(first, "random") == 0
    assert json.loads(first.read_text()) == json.loads(finished.read_text())[:3]


def test_simulation_prints_means_and_differences_to_random(finished, capsys):
    run(finished, "random")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert lines[1].split()[:3] == ["random", "0", "15"]
    assert "+0.00" in lines[1]


def test_simulation_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert run(tmp_path / "r.json", "///best") == 2
    assert "unknown sampler 'best'" in capsys.readouterr().err


FAULTS = {
    "network": ["--network", "origami"],
    "recipe": ["--recipe", "napkin"],
    "init": ["--init", "foo"],
    "device": ["--device", "abacus"],
    "neither a folder": ["--mix", "nowhere:10"],
    "learns from colours": ["--strategies", "random,colorization///"],
    "unknown encoder 'origami'": ["--encoder", "origami"],
    "does not go with encoder 'none'": ["--encoder", "none", "--learner", "linear"],
    "of resnet18": ["--init", "pretrained", "--network", "compact"],
}


@pytest.mark.parametrize("words", FAULTS)
def test_simulation_refuses_before_any_training_and_leaves_the_file_free(tmp_path, capsys, words):
    path = tmp_path / "r.json"
    assert run(path, "random", *FAULTS[words]) == 2
    assert words in capsys.readouterr().err
    assert not list(path.with_suffix(".work").rglob("*.pt"))
    with Results(
        path, ExperimentConfig(data="digits", rounds=1, k=1)
    ) as results:  # nothing was noted of the other configuration
        assert results.rows == []


@pytest.mark.parametrize("option", ["--pool", "--stop-after", "--seeds", "--k", "--rounds", "--test", "--threads"])
@pytest.mark.parametrize("value", ["0", "-5", "few"])
def test_simulation_takes_counts_from_one_on(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "r.json", "random", f"{option}={value}")
    assert ended.value.code == 2
    assert f"argument {option}: '{value}' is not a whole number from 1 on" in capsys.readouterr().err


def test_simulation_says_what_the_pool_really_is_and_when_it_is_exhausted(tmp_path, capsys):
    path = tmp_path / "r.json"
    arguments = (
        "--data digits --test 50 --imbalance --pool 70 --rounds 4 --k 30 --seeds 1 --epochs 1 --pretext-epochs 1"
    )
    assert main([*arguments.split(), "--strategies", "random", "--json", str(path)]) == 0
    said = capsys.readouterr().err
    assert "pool of 65 images (of 70 asked for): 0 1, 1 2, 2 3, 3 5, 4 6, 5 7, 6 8, 7 10, 8 11, 9 12; 50 test" in said
    assert "random  seed 0  the pool is exhausted: all its images are asked, 65 labels" in said
    assert [row["labels"] for row in json.loads(path.read_text())] == [30, 60, 65]
    assert main([*arguments.split(), "--strategies", "random", "--json", str(path)]) == 0
    assert [row["labels"] for row in json.loads(path.read_text())] == [30, 60, 65]


def test_simulation_compares_where_weights_start_within_one_file(finished):
    """The sixth part goes on in a file of strategies without it, and trains another model on the same labels."""
    assert run(finished, "random,/none/random/random//scratch", "--stop-after", "1") == 0
    first = {row["strategy"]: row for row in json.loads(finished.read_text()) if row["round"] == 0}
    scratch = first["/none/random/random//scratch"]
    assert scratch["asked"] == first["random"]["asked"]
    assert scratch["accuracy"] != first["random"]["accuracy"]


def test_simulation_counts_the_images_of_another_set_that_it_asks(tmp_path):
    path = tmp_path / "r.json"
    folder = _folder_of_noise(tmp_path / "noise", 60)
    arguments = "--data digits --pool 60 --test 50 --rounds 2 --k 20 --seeds 1 --epochs 1 --pretext-epochs 1"
    assert main([*arguments.split(), "--mix", f"{folder}:30", "--strategies", "random", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["labels"] for row in rows] == [20, 40]  # an image without a class is answered, and costs as much
    for row in rows:
        assert row["foreign"] == (20 - sum(row["asked"])) / 20
    assert 0 < rows[0]["foreign"] < 1


def test_simulation_puts_back_the_images_of_another_set_as_dalbt_does(tmp_path):
    path = tmp_path / "r.json"
    folder = _folder_of_noise(tmp_path / "noise", 60)
    arguments = "--data digits --pool 30 --test 50 --rounds 3 --k 30 --seeds 1 --epochs 1 --pretext-epochs 1 --put-back"
    assert main([*arguments.split(), "--mix", f"{folder}:40", "--strategies", "random", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["labels"] for row in rows] == [30, 60, 90]  # each asked image costs, though there are 70 only
    asked = [np.load(part) for part in sorted(path.with_suffix(".work").rglob("asked-*.npy"))]
    truth = np.arange(70) < 30  # those of the set come first
    own = np.concatenate([part[truth[part]] for part in asked])
    assert len(set(own)) == len(own), "an image with a class is asked once"
    foreign = np.concatenate([part[~truth[part]] for part in asked])
    assert len(set(foreign)) < len(foreign), "the others may come again"


def test_simulation_goes_on_from_the_last_rounds_weights_to_the_same_figures_after_a_stop(tmp_path):
    arguments = (
        "--data digits --pool 80 --test 60 --rounds 3 --k 15 --seeds 1 --epochs 2 --pretext-epochs 1 --threads 1"
    )
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    named = ["--strategies", "/none/random/random/none/previous,/none/random/random/none/scratch"]
    assert main([*arguments.split(), *named, "--json", str(whole)]) == 0
    for rounds in (1, 2, 3):
        assert main([*arguments.split(), *named, "--json", str(parts), "--stop-after", str(rounds)]) == 0
    key = lambda row: (row["strategy"], row["round"])  # noqa: E731
    rows = sorted(json.loads(whole.read_text()), key=key)
    assert rows == sorted(json.loads(parts.read_text()), key=key)
    assert rows[0]["accuracy"] == rows[3]["accuracy"], "the first round has no model before it"
    assert rows[1]["accuracy"] != rows[4]["accuracy"]


def test_simulation_takes_a_side(tmp_path):
    path = tmp_path / "r.json"
    arguments = "--data digits --pool 40 --test 20 --rounds 1 --k 10 --seeds 1 --epochs 1 --pretext-epochs 1 --side 32"
    assert main([*arguments.split(), "--strategies", "random", "--json", str(path)]) == 0
    assert ImageBank.open(path.with_suffix(".work") / "seed-0" / "pool").side == 32


def test_simulation_mixes_in_no_more_than_there_is(tmp_path, capsys):
    folder = _folder_of_noise(tmp_path / "noise", 4)  # one of them is a test image
    assert run(tmp_path / "r.json", "random", "--mix", f"{folder}:4") == 2
    assert "has 3 images, not 4" in capsys.readouterr().err


def test_simulation_of_every_kind_of_need(tmp_path):
    """One strategy for each way in which outputs come about: first-query features, ensemble, module, adversary."""
    names = ["//kmeans/variation_ratio", "///learning_loss/barlow_twins", "///bald", "///vaal", "///mc_entropy/dalbt"]
    path = tmp_path / "r.json"
    arguments = "--data digits --pool 80 --test 40 --rounds 2 --k 10 --seeds 1 --epochs 1 --pretext-epochs 1"
    assert main([*arguments.split(), "--strategies", ",".join(names), "--json", str(path)]) == 0
    assert [row["strategy"] for row in json.loads(path.read_text())] == [name for name in names for _ in range(2)]


# -- on the features of an encoder

LINEAR = "--data digits --pool 120 --test 80 --rounds 3 --k 12 --seeds 1 --learner linear --threads 1"


def run_linear(path, encoders, strategies, *more):
    """Run strategies on an encoder that is prepared already."""
    shutil.copytree(encoders, path.with_suffix(".work") / "encoders", dirs_exist_ok=True)
    return main([*LINEAR.split(), "--strategies", strategies, "--json", str(path), *more])


STRATEGIES = "random,/none/max_herding/uncertainty_herding"


@pytest.fixture(scope="module")
def linear(tmp_path_factory, encoders):
    path = tmp_path_factory.mktemp("linear") / "results.json"
    assert run_linear(path, encoders, STRATEGIES) == 0
    return path


def test_simulation_of_a_linear_learner_needs_no_training_of_a_network(linear):
    rows = json.loads(linear.read_text())
    assert [(r["strategy"], r["labels"]) for r in rows] == [(s, n) for s in STRATEGIES.split(",") for n in (12, 24, 36)]
    assert min(rows[2]["accuracy"], rows[5]["accuracy"]) > 0.4  # 36 labels of ten digits
    assert rows[3]["asked"] != rows[0]["asked"]
    weights = {path.name for path in linear.with_suffix(".work").rglob("*.pt")}
    assert weights == {"model.pt"}  # no pretext network


def test_simulation_of_a_linear_learner_goes_on_after_a_stop_to_the_same_figures(
    linear, encoders, tmp_path, monkeypatch
):
    path = tmp_path / "results.json"
    assert run_linear(path, encoders, STRATEGIES, "--stop-after", "1") == 0
    assert [row["round"] for row in json.loads(path.read_text())] == [0, 0]
    # Of the images nothing is embedded again.
    monkeypatch.setattr("model.encoders.encoder.Encoder.embed", None)
    assert run_linear(path, encoders, STRATEGIES) == 0
    rows = sorted(json.loads(path.read_text()), key=lambda row: (row["strategy"], row["round"]))
    assert rows == sorted(json.loads(linear.read_text()), key=lambda row: (row["strategy"], row["round"]))


def test_simulation_of_a_fine_tuned_block_keeps_activations_and_asks_the_same_random_images(
    linear, encoders, tmp_path, monkeypatch
):
    monkeypatch.setattr("model.learners.finetune.EPOCHS", 10.0)
    path = tmp_path / "r.json"
    assert run_linear(path, encoders, "/none/random/random/none/pretext/finetune", "--rounds", "2") == 0
    rows = json.loads(path.read_text())
    assert [row["asked"] for row in rows] == [row["asked"] for row in json.loads(linear.read_text())[:2]]
    assert rows[1]["accuracy"] > 0.3
    kept = FeatureBank.open(path.with_suffix(".work") / "seed-0" / "pool-embedded" / "activations")
    assert (len(kept), kept.dim) == (120, 192 * 4 * 4)
    assert run_linear(path, encoders, "random", "--learner", "finetune", "--encoder", "none") == 2


def test_simulation_asks_a_first_query_by_losses_inside_the_first_batch_also_with_an_encoder(
    tmp_path, encoders, monkeypatch
):
    path, names = tmp_path / "r.json", ["/high_first/top/random", "/high_first/even/random"]
    losses = np.random.default_rng(3).random(120, np.float32)
    monkeypatch.setattr("model.lab.experiment.Experiment.losses_on_encoder", lambda experiment, task: losses)
    assert run_linear(path, encoders, ",".join(names), "--rounds", "1", "--batches", "4") == 0
    seed, hardest = path.with_suffix(".work") / "seed-0", np.argsort(-losses)
    top, even = (np.load(seed / name.replace("/", "+") / "asked-000.npy").tolist() for name in names)
    assert top == hardest[:12].tolist()
    assert even == hardest[np.arange(12) * 30 // 12].tolist()


def test_simulation_embeds_the_images_of_another_set_as_well(tmp_path, encoders):
    path = tmp_path / "r.json"
    folder = _folder_of_noise(tmp_path / "noise", 40)
    more = ["--mix", f"{folder}:20", "--pool", "40", "--test", "20", "--rounds", "2"]
    assert run_linear(path, encoders, STRATEGIES, *more) == 0
    for row in json.loads(path.read_text()):
        assert row["foreign"] == pytest.approx(1 - sum(row["asked"]) / 12)
    assert {row["round"] for row in json.loads(path.read_text())} == {0, 1}
    features = FeatureBank.open(path.with_suffix(".work") / "seed-0" / "pool-embedded" / "features")
    assert features.known.tolist() == [True] * 60
    digits, noise = features.gather(np.arange(40)), features.gather(np.arange(40, 60))
    assert np.linalg.norm(digits.mean(axis=0) - noise.mean(axis=0)) > 1  # each set has its own


def test_simulation_says_which_weights_are_missing_before_any_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    path = tmp_path / "r.json"
    arguments = [*LINEAR.split(), "--encoder", "timm:test_resnet.r160_in1k", "--strategies", "default"]
    assert main([*arguments, "--json", str(path)]) == 2
    assert "put 'model.safetensors' of timm/test_resnet.r160_in1k at" in capsys.readouterr().err
    assert not list(path.with_suffix(".work").rglob("*.pt"))


def _folder_of_noise(folder, n):
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(n):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number:02d}.png")
    return folder
