"""The examples of docs/development.md, taken from the page and run as it says."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.loop_project import LoopProject, shorten_training

from backend.errors import ConfigError, ProjectError
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.labeling.registry import LABELINGS, LabelingInfo
from backend.loop.context import open_project
from backend.project_files import Files
from backend.status.predictions import open_predictions
from backend.status.status import read_status
from backend.status.summary import as_json
from backend.store import AskRole, AskState
from model.data.bank import ImageBank
from model.pretext.registry import PRETEXT_TASKS, PretextInfo
from model.pretext.run import extract_losses, train_pretext
from model.problems import PROBLEMS
from model.querying.batches import split
from model.querying.outputs import Outputs
from model.querying.plan import Pool, QuerySettings, plan_round
from model.querying.samplers import SAMPLERS

PAGE = Path(__file__).parents[2] / "docs" / "development.md"
RIM, MIRROR, REGRESSION, NUMBER = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
RECORD = re.search(r"`(PretextInfo\(.*?\))`", PAGE.read_text(), re.DOTALL)[1]
CONFIG = '<View><Image name="i" value="$image"/><Number name="n" toName="i" min="0" max="10"/></View>'
NUMBERS = {"left": 2, "right": 8}  # by the bright half of the image


def load(code, name):
    module = {"__name__": "docs.development"}
    exec(compile(code, str(PAGE), "exec"), module)
    return module[name]


def run(code, name):
    return load(code, name)()


def lines(code):
    return len([line for line in code.splitlines() if line.strip()])


def answer(number):
    return [{"from_name": "n", "to_name": "i", "type": "number", "value": {"number": number}}]


@pytest.fixture
def numbers(monkeypatch):
    """The problem and the labeling of the page, registered as it says."""
    monkeypatch.setitem(PROBLEMS, "regression", run(REGRESSION, "Regression"))
    monkeypatch.setitem(LABELINGS, "number", LabelingInfo("Number", load(NUMBER, "Number")))


@pytest.mark.parametrize("code", [RIM, MIRROR])
def test_an_example_has_at_most_thirty_lines(code):
    assert lines(code) <= 30


def test_a_problem_with_its_labeling_has_at_most_sixty_lines():
    assert lines(REGRESSION) + lines(NUMBER) <= 60


def test_the_sampler_of_the_page_asks_a_round_once_it_is_registered(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "rim", run(RIM, "Rim"))
    generator = np.random.default_rng(0)
    losses = generator.random(60, np.float32)
    outputs = Outputs(probs=generator.dirichlet(np.ones(3), 60), embeddings=generator.normal(size=(60, 4)))
    pool = Pool(losses, split(losses, 3, "interleaved"), np.ones(60, bool))
    settings = QuerySettings(3, 5, sampler="rim")
    assert settings.needs(1) == {"confidence", "embeddings"}
    asked = plan_round(1, pool, outputs, settings, generator).indices
    members = np.flatnonzero(pool.batch_of == 1)
    features = outputs.embeddings[members]
    wanted = np.linalg.norm(features - features.mean(axis=0), axis=1) * (1 - outputs.probs[members].max(axis=1))
    assert asked.tolist() == members[np.argsort(-wanted)[:5]].tolist()


def test_the_pretext_task_of_the_page_trains_and_scores_once_it_is_registered(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "model.pretext.mirror", SimpleNamespace(Mirror=lambda: run(MIRROR, "Mirror")))
    monkeypatch.setitem(PRETEXT_TASKS, "mirror", eval(RECORD, {"PretextInfo": PretextInfo}))
    generator = np.random.default_rng(0)
    bank = ImageBank.create(tmp_path / "bank", 16)
    ramp = np.linspace(0, 200, 16)[:, None]  # dark on the left
    bank.append((ramp + generator.integers(0, 50, (70, 16, 16, 3))).astype(np.uint8))
    train_pretext("mirror", bank, out=tmp_path / "w.pt", checkpoint=tmp_path / "c.pt", epochs=2, device="cpu")
    losses = extract_losses(bank, tmp_path / "w.pt", device="cpu")
    assert losses.shape == (70,)
    assert losses.mean() < np.log(2)  # better than a coin
    np.testing.assert_array_equal(extract_losses(bank, tmp_path / "w.pt", start=65, device="cpu"), losses[65:])


def test_numbers_come_back_from_their_regions(numbers):
    labeling = read_labeling(CONFIG)
    assert labeling.target(answer(7)) == pytest.approx(0.7)
    assert labeling.result(0.7, Item()) == answer(7)
    assert labeling.target(labeling.result(0.123456, Item())) == pytest.approx(0.123456)
    for wrong in (answer(11), answer(True), answer("7"), answer(7) * 2, [], [None]):
        assert labeling.target(wrong) is None
    assert labeling.result("left", Item()) == []


@pytest.mark.parametrize("limits", ['min="0"', 'min="5" max="5"', 'min="0" max="inf"', 'min="a" max="b"'])
def test_numbers_without_a_range_are_refused(numbers, limits):
    with pytest.raises(ProjectError, match=r"<Number> 'n' needs"):
        read_labeling(CONFIG.replace('min="0" max="10"', limits))


def test_the_problem_of_the_page_goes_through_the_loop_once_it_is_registered(numbers, monkeypatch, tmp_path):
    shorten_training(monkeypatch)
    loop = LoopProject(tmp_path, monkeypatch, CONFIG)
    loop.add(40)
    loop.connect(holdout_fraction=0.5)
    loop.run()
    first = loop.queue()
    for task in first:
        loop.person.annotate(task, answer(NUMBERS[loop.truth[task]]))
    loop.person.annotate(first[0], answer(NUMBERS[loop.truth[first[0]]] + 1))  # answered by two people
    assert "retrain" in loop.run()
    assert loop.stored(first[0])[1] == pytest.approx(NUMBERS[loop.truth[first[0]]] / 10 + 0.05)
    assert loop.stored(first[1])[1] == pytest.approx(NUMBERS[loop.truth[first[1]]] / 10)

    assert loop.round.number == 1
    asks = loop.store.of(loop.id).rounds.asks(1, states=[AskState.POSTED])
    assert len(asks) >= len(first)
    for ask in asks:
        (shown,) = loop.server.projects[loop.studio.id].tasks[ask.task_id].predictions[-1:]
        assert 0 < ask.prediction < 1
        if ask.role == AskRole.HOLDOUT:  # measures the model: people answer it without seeing what it predicts
            assert shown.result == []
        else:
            assert shown.result == answer(round(10 * ask.prediction, 6))

    predictions = open_predictions(loop.store.of(loop.id), Files.of(tmp_path, loop.id))
    distances = np.abs(np.array(predictions.predict(predictions.held)) - np.array(predictions.targets))
    status = as_json(read_status(loop.store, loop.row))
    assert status["error"] is None
    assert status["history"][0]["holdout_size"] == len(predictions.held) > 0
    assert status["history"][0]["quality"] == pytest.approx(1 - distances.mean(), abs=1e-4)


def test_a_sampler_that_needs_posteriors_is_refused_for_the_problem_of_the_page(numbers, monkeypatch, tmp_path):
    loop = LoopProject(tmp_path, monkeypatch, CONFIG)
    loop.add(4)
    loop.connect(sampler="margin")
    with pytest.raises(ConfigError, match="'margin' needs one posterior"):
        open_project(loop.context, loop.id)
