import json
import subprocess
import sys

import pytest

from model.errors import BadInput
from model.lab.experiment import ExperimentConfig
from model.lab.results import Results

CONFIG = ExperimentConfig(data="digits", rounds=2, k=10)
OTHER = ExperimentConfig(data="digits", rounds=2, k=11)


def begun(path, *rows):
    with Results[dict](path, CONFIG) as results:
        results.begin()
        for row in rows:
            results.add(row)
    return results


def read(path, config=CONFIG):
    with Results[dict](path, config) as results:
        return results.rows


def test_results_are_whole_after_each_row_and_read_back(tmp_path):
    with Results[dict](tmp_path / "r.json", CONFIG) as results:
        results.begin()
        results.add({"round": 0})
        assert json.loads(results.path.read_text()) == [{"round": 0}]
        results.add({"round": 1})
    assert read(tmp_path / "r.json") == [{"round": 0}, {"round": 1}]


def test_results_of_another_configuration_are_refused(tmp_path):
    begun(tmp_path / "r.json", {})
    with pytest.raises(BadInput, match="another configuration"):
        read(tmp_path / "r.json", OTHER)


def test_work_of_another_configuration_is_refused_before_the_first_row(tmp_path):
    begun(tmp_path / "r.json")
    with pytest.raises(BadInput, match="another configuration"):
        read(tmp_path / "r.json", OTHER)


def test_results_that_never_began_are_free_for_another_configuration(tmp_path):
    assert read(tmp_path / "r.json") == read(tmp_path / "r.json", OTHER) == []


def test_results_that_another_process_writes_are_refused_until_it_ends(tmp_path):
    begun(tmp_path / "r.json", {"round": 0})
    hold = (
        "import sys; from pathlib import Path; from model.lab.results import Results\n"
        "from model.lab.experiment import ExperimentConfig\n"
        "with Results(Path(sys.argv[1]), ExperimentConfig(data='digits', rounds=2, k=10)):"
        " print('held', flush=True), input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "r.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match=r"another run writes .*r\.json: give each its own --json"):
            read(tmp_path / "r.json")
        other.communicate("\n")
    assert read(tmp_path / "r.json") == [{"round": 0}]


def test_results_noted_before_a_field_existed_go_on_with_its_default(tmp_path):
    results = begun(tmp_path / "r.json", {})
    noted = results.work / "setting.json"
    noted.write_text(json.dumps({"data": "digits", "rounds": 2, "k": 10}))
    assert read(tmp_path / "r.json") == [{}]


@pytest.mark.parametrize("content", ["not json", "{}", "[1]"])
def test_results_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "r.json"
    begun(path)
    path.write_text(content)
    with pytest.raises(BadInput, match="no results file"):
        read(path)


def test_results_in_a_place_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="can be written"):
        read(tmp_path / "file" / "r.json")


def test_results_without_their_configuration_are_refused(tmp_path):
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(BadInput, match="another configuration"):
        read(tmp_path / "r.json")
