import json

import pytest

from model.errors import BadInput
from model.results import Results
from model.world import Setting

SETTING = Setting(data="digits", rounds=2, k=10)
OTHER = Setting(data="digits", rounds=2, k=11)


def test_results_are_whole_after_each_row_and_read_back(tmp_path):
    results = Results[dict](tmp_path / "r.json", SETTING)
    results.add({"round": 0})
    assert json.loads(results.path.read_text()) == [{"round": 0}]
    results.add({"round": 1})
    assert Results[dict](tmp_path / "r.json", SETTING).rows == [{"round": 0}, {"round": 1}]


def test_results_of_another_setting_are_refused(tmp_path):
    Results[dict](tmp_path / "r.json", SETTING).add({})
    with pytest.raises(BadInput, match="another setting"):
        Results[dict](tmp_path / "r.json", OTHER)


def test_work_of_another_setting_is_refused_before_the_first_row(tmp_path):
    Results[dict](tmp_path / "r.json", SETTING)
    with pytest.raises(BadInput, match="another setting"):
        Results[dict](tmp_path / "r.json", OTHER)


def test_results_noted_before_a_field_existed_go_on_with_its_default(tmp_path):
    results = Results[dict](tmp_path / "r.json", SETTING)
    results.add({})
    noted = results.work / "setting.json"
    noted.write_text(json.dumps({"data": "digits", "rounds": 2, "k": 10}))
    assert Results[dict](tmp_path / "r.json", SETTING).rows == [{}]


def test_results_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "r.json"
    Results[dict](path, SETTING)
    path.write_text("not json")
    with pytest.raises(BadInput, match="no results file"):
        Results[dict](path, SETTING)


def test_results_without_their_setting_are_refused(tmp_path):
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(BadInput, match="another setting"):
        Results[dict](tmp_path / "r.json", SETTING)
