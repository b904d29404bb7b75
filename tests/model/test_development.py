"""The examples of docs/development.md, taken from the page and run as it says."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from model.data.bank import ImageBank
from model.pretext.registry import PRETEXT_TASKS, PretextInfo
from model.pretext.run import extract_losses, train_pretext
from model.querying.batches import split
from model.querying.outputs import Outputs
from model.querying.plan import Pool, QuerySettings, plan_round
from model.querying.samplers import SAMPLERS

PAGE = Path(__file__).parents[2] / "docs" / "development.md"
RIM, MIRROR = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
RECORD = re.search(r"`(PretextInfo\(.*?\))`", PAGE.read_text(), re.DOTALL)[1]


def run(code, name):
    module = {}
    exec(compile(code, str(PAGE), "exec"), module)
    return module[name]()


@pytest.mark.parametrize("code", [RIM, MIRROR])
def test_an_example_has_at_most_thirty_lines(code):
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


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
