"""The run at the paper's size, small: whole, and in pieces."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "paper_size.py"
SMALL = [
    "--data", "digits", "--pool", "100", "--rounds", "2", "--test", "40", "--epochs", "1", "--pretext-epochs", "1",
    "--runs", "networks", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def paper_size():
    spec = importlib.util.spec_from_file_location("paper_size", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_call_that_is_stopped_is_gone_on_with_to_the_table(paper_size, tmp_path, capsys):
    assert paper_size.main(["--out", str(tmp_path), "--seconds", "1", *SMALL]) == paper_size.MORE
    assert paper_size.main(["--out", str(tmp_path), *SMALL]) == 0
    rows = json.loads((tmp_path / "paper-size-networks.json").read_text())
    strategies = paper_size.RUNS["networks"][-1].split(",")
    assert [(row["strategy"], row["labels"]) for row in rows] == [(name, k) for name in strategies for k in (2, 4)]
    said = capsys.readouterr().out
    assert all(name in said for name in strategies)


def test_its_defaults_are_the_papers_size(paper_size):
    given = paper_size._parser().parse_args(["--out", "x"])
    assert (given.pool, given.rounds, given.pool // paper_size.ASKED) == (50_000, 10, 1000)
    assert (given.epochs, given.pretext_epochs, given.data) == (None, None, "cifar10")
    assert given.seconds < 600


def test_an_error_is_no_call_to_go_on(paper_size, tmp_path):
    assert paper_size.main(["--out", str(tmp_path), *SMALL, "--device", "none"]) == 2
