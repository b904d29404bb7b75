"""The last block of the encoder, trained on kept activations, on toy pools and a toy block."""

import numpy as np
import pytest
import torch
from support.images import bank_of, noise
from torch import nn

from model.data.features import FeatureBank
from model.encoders.network import Top
from model.errors import BadInput, ModelError
from model.learners import choice, finetune, linear
from model.learners.base import PoolImages, evaluate
from model.learners.fitting import fit, load_model, refine
from model.learners.folds import FOLDS
from model.learners.linear import fit_linear
from model.learners.registry import FINETUNE, LINEAR, MOST_ACTIVATED, OWN, reads_activations
from model.learners.settings import FitSettings
from model.learners.trials import Choice
from model.problems import PROBLEMS

SINGLE, MULTI = PROBLEMS["single_label"], PROBLEMS["multi_label"]
SHAPE = (6, 3, 3)  # of the activations
LAST, MID, N = 4, 4, 160
CLASSES = ["ant", "bee", "cat"]


class Block(nn.Module):
    """A block whose fresh weights tell little of the classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(SHAPE[0], 24, 1), nn.Conv2d(24, LAST, 1)

    def forward(self, x):
        return self.second(self.first(x).relu()).relu()


def top(*_):
    return Top(Block(), nn.Identity(), SHAPE)


@pytest.fixture(autouse=True)
def toy_block(monkeypatch):
    monkeypatch.setattr(finetune, "EPOCHS", 120.0)
    for name in ("open_top", "bare_top"):
        monkeypatch.setattr(finetune, name, top)


def draw(n=N, classes=3, seed=0):
    """Return activations (n, C, H, W) whose class is which pair of channels agrees in sign, and the classes (n,)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    maps = generator.normal(size=(n, *SHAPE)).astype(np.float32)
    for pair in range(3):
        signs = np.sign(maps[:, 2 * pair]) * np.where(truth == pair, 1, -1)[:, None, None]
        maps[:, 2 * pair + 1] = signs * np.abs(maps[:, 2 * pair + 1])
    return maps, truth


def pool_of(folder, maps, activated=None, known=None):
    """Return a pool with these activations and the features that the toy block makes of them."""
    n = len(maps)
    with torch.inference_mode():
        last = top()(torch.from_numpy(maps)).numpy()
    features = FeatureBank.create(folder / "features", "timm:a", 128, LAST + MID, LAST)
    features.write(np.arange(n), np.concatenate([last, maps.mean(axis=(2, 3))[:, :MID]], axis=1).astype(np.float16))
    size = int(np.prod(SHAPE))
    activations = FeatureBank.create(folder / "activations", "timm:a", 128, size, size)
    rows = np.arange(n) if activated is None else activated
    activations.write(rows, maps.reshape(n, -1)[rows].astype(np.float16))
    return PoolImages(bank_of(folder / "bank", noise(n, side=16)), features, activations=activations)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    maps, truth = draw()
    return pool_of(tmp_path_factory.mktemp("toy"), maps), truth


def learn(pool, n, truth, folder, of=SINGLE, classes=CLASSES, **more):
    settings = FitSettings(learner=FINETUNE, device="cpu", seed=more.pop("seed", 0))
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt"}
    fitted = fit(pool, np.arange(n), truth[:n], of, classes, settings, **files, **more)
    return load_model(folder / "m.pt", device="cpu"), fitted


def accuracy(model, pool, truth, first):
    rest = np.arange(first, len(truth))
    return evaluate(model, pool, rest, [CLASSES[c] for c in truth[rest]], CLASSES)


def test_a_trained_block_learns_what_its_frozen_features_do_not_tell(toy, tmp_path):
    pool, truth = toy
    fit_linear(pool.features, np.arange(90), truth[:90], SINGLE, CLASSES, out=tmp_path / "head.pt")
    frozen = accuracy(load_model(tmp_path / "head.pt"), pool, truth, 90)
    model, fitted = learn(pool, 90, truth, tmp_path)
    assert fitted.learner == FINETUNE
    assert accuracy(model, pool, truth, 90) > frozen + 0.05
    assert list(tmp_path.glob("c*")) == [], "nothing is left of the folds"


def test_the_start_is_the_linear_head(toy, tmp_path, monkeypatch):
    pool, truth = toy
    monkeypatch.setattr(finetune, "LEARNING_RATE", 0.0)
    monkeypatch.setattr(finetune, "ROOT_FLOOR", 1e-10)
    tuned, _ = learn(pool, 60, truth, tmp_path)
    assert (tuned.heads[0][0].columns, tuned.heads[1][0].columns) == (LAST, LAST + MID)
    rows = np.arange(N)
    raw = tuned._raw(pool.features.gather(rows))
    scaling, weight, bias = tuned.heads[0]
    start = torch.from_numpy(scaling.apply(pool.features.gather(rows))) @ weight + bias
    expected = SINGLE.outputs_of((raw + start) / 2 / tuned.temperature)["probs"]
    np.testing.assert_allclose(tuned.predict_pool(pool).probs, expected, atol=0.01)  # fp16


def test_a_fit_is_deterministic_and_goes_on_after_a_kill(toy, tmp_path, monkeypatch):
    pool, truth = toy
    monkeypatch.setattr(finetune, "CHECKPOINT_S", 0.0)
    (tmp_path / "whole").mkdir()
    whole, _ = learn(pool, 60, truth, tmp_path / "whole")
    probs = whole.predict_pool(pool).probs
    for share in (0.1, 0.6, 0.95):  # in the first fold, in the last, in the final training

        def kill(done, share=share):
            if done > share:
                raise InterruptedError

        folder = tmp_path / str(share)
        folder.mkdir()
        with pytest.raises(InterruptedError):
            learn(pool, 60, truth, folder, progress=kill)
        assert not (folder / "m.pt").exists()
        trained = []
        plain = finetune._Training.run
        monkeypatch.setattr(finetune._Training, "run", lambda self, *a, p=plain, t=trained: t.append(1) or p(self, *a))
        again, _ = learn(pool, 60, truth, folder)
        monkeypatch.setattr(finetune._Training, "run", plain)
        np.testing.assert_array_equal(again.predict_pool(pool).probs, probs)
        assert len(trained) == {0.1: FOLDS + 1, 0.6: FOLDS - 1, 0.95: 1}[share], "finished folds are not repeated"


def test_confidences_are_more_honest_for_their_temperature(tmp_path):
    maps, _ = draw(n=400)
    chance = np.random.default_rng(1).integers(0, 3, 400)  # no model can know these
    pool = pool_of(tmp_path, maps)
    model, _ = learn(pool, 90, chance, tmp_path)
    rest, sure = np.arange(90, 400), []
    for temperature in (1.0, model.temperature):
        model.temperature = temperature
        sure.append(model.predict_pool(pool, rest).probs.max(axis=1).mean())
    assert sure[1] - 1 / 3 < 0.7 * (sure[0] - 1 / 3)


def test_several_classes_an_image_are_learned(tmp_path):
    maps, kinds = draw(n=240)
    there = np.stack([kinds == 0, kinds > 0], axis=1).astype(np.float32)
    pool, names = pool_of(tmp_path, maps), ["first", "other"]
    model, _ = learn(pool, 120, there, tmp_path, of=MULTI, classes=names)
    targets = [[name for name, yes in zip(names, row, strict=True) if yes] for row in there[120:]]
    assert evaluate(model, pool, np.arange(120, 240), targets, names) > 0.8
    assert len(model.decoding["thresholds"]) == 2


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_labels_and_one_class_are_enough(toy, tmp_path, n):
    pool, _ = toy
    model, _ = learn(pool, n, np.full(N, 1), tmp_path)
    probs = model.predict_pool(pool).probs
    assert np.isfinite(probs).all()
    assert (probs.argmax(axis=1) == 1).all()


def test_embeddings_are_those_of_the_trained_block_and_have_length_1(toy, tmp_path):
    pool, truth = toy
    model, _ = learn(pool, 60, truth, tmp_path)
    needs = frozenset({"embeddings", "probs"})
    whole = model.predict_pool(pool, needs=needs)
    assert whole.embeddings.shape == (N, LAST)
    np.testing.assert_allclose(np.linalg.norm(np.float32(whole.embeddings), axis=1), 1.0, atol=2e-3)
    part = model.predict_pool(pool, np.array([7, 2, 7]), needs=needs)
    np.testing.assert_allclose(part.probs, whole.probs[[7, 2, 7]], rtol=1e-4)
    np.testing.assert_allclose(part.embeddings, whole.embeddings[[7, 2, 7]], atol=1e-3)


def test_images_without_activations_get_neutral_values(tmp_path):
    maps, truth = draw(n=60)
    pool = pool_of(tmp_path, maps, activated=np.setdiff1d(np.arange(60), [50, 59]))
    model, _ = learn(pool, 30, truth, tmp_path)
    outputs = model.predict_pool(pool, needs=frozenset({"embeddings"}))
    np.testing.assert_allclose(outputs.probs[[50, 59]], 1 / 3)
    assert not outputs.embeddings[[50, 59]].any()
    assert (outputs.probs[:50].max(axis=1) > 0.34).all()


def test_what_does_not_fit_is_refused(toy, tmp_path):
    pool, truth = toy
    with pytest.raises(BadInput, match="'finetune' needs the activations of an encoder"):
        learn(PoolImages(pool.bank, pool.features), 30, truth, tmp_path)
    maps, _ = draw(n=20)
    gaps = pool_of(tmp_path / "gaps", maps, activated=np.arange(15))
    with pytest.raises(BadInput, match="5 of 20 labeled images have no activations yet"):
        learn(gaps, 20, truth, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gaps"]
    model, _ = learn(pool, 30, truth, tmp_path)
    with pytest.raises(BadInput, match="needs the activations of 'timm:a' at 128 pixels"):
        model.predict_pool(PoolImages(pool.bank, pool.features))
    path = tmp_path / "m.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)


# -- the choice


def compare(pool, truth, folder, n=90, **more):
    names = [CLASSES[c] for c in truth[:n]]
    settings = FitSettings(learner="auto", epochs=1, device="cpu")
    known = more.pop("known", None)
    files = {"out": folder / "better.pt", "checkpoint": folder / "c.pt"}
    return refine(pool, np.arange(n), names, SINGLE, CLASSES, settings, known, **files, **more)


def test_a_block_that_is_clearly_ahead_is_chosen_and_its_folds_are_trained_once(toy, tmp_path, monkeypatch):
    pool, truth = toy
    trained = []
    plain = finetune._Training.run
    monkeypatch.setattr(finetune._Training, "run", lambda self, *a: trained.append(1) or plain(self, *a))
    found = compare(pool, truth, tmp_path)
    assert found.learner == FINETUNE
    assert list(found.quality) == [LINEAR, FINETUNE, OWN]
    assert found.quality[FINETUNE] > found.quality[LINEAR]
    assert len(trained) == FOLDS + 1, "the temperature of the model comes from the folds of the comparison"
    assert isinstance(load_model(tmp_path / "better.pt", device="cpu"), finetune.FinetunedModel)
    assert [path.name for path in tmp_path.iterdir()] == ["better.pt"]


def test_a_network_is_not_tried_where_the_block_is_good(toy, tmp_path, monkeypatch):
    pool, truth = toy
    monkeypatch.setattr(choice, "GOOD", 0.6)
    monkeypatch.setattr(linear, "out_of_fold", lambda *_: _all_wrong(truth[:90]))
    assert set(compare(pool, truth, tmp_path).quality) == {LINEAR, FINETUNE}


def _all_wrong(truth):
    from model.querying.outputs import Outputs

    return Outputs(probs=np.eye(3, dtype=np.float32)[(truth + 1) % 3])


def test_a_pool_without_activations_compares_the_others(toy, tmp_path):
    pool, truth = toy
    found = compare(PoolImages(pool.bank, pool.features), truth, tmp_path)
    assert list(found.quality) == [LINEAR, OWN]


def test_a_block_whose_activations_are_gone_makes_way_for_the_linear_head(toy, tmp_path):
    pool, truth = toy
    known = Choice(FINETUNE, 90, {LINEAR: 0.5, FINETUNE: 0.9})
    found = compare(PoolImages(pool.bank, pool.features), truth, tmp_path, known=known)
    assert (found.learner, found.labels) == (LINEAR, 90)
    assert compare(pool, truth, tmp_path, known=known) == known
    assert (tmp_path / "better.pt").exists()


def test_the_dearer_learner_has_to_be_ahead_of_the_best_cheaper_one():
    right = lambda n: np.repeat([1.0, 0.0], [n, 100 - n])  # noqa: E731
    assert choice._better({LINEAR: right(80), FINETUNE: right(80), OWN: right(80)}, LINEAR) == LINEAR
    assert choice._better({LINEAR: right(80), FINETUNE: right(90), OWN: right(85)}, LINEAR) == FINETUNE
    assert choice._better({LINEAR: right(80), FINETUNE: right(90), OWN: right(97)}, LINEAR) == OWN
    assert choice._better({LINEAR: right(80), FINETUNE: right(70), OWN: right(85)}, LINEAR) == OWN
    assert choice._better({LINEAR: right(80), OWN: right(80)}, OWN) == OWN
    assert choice._better({LINEAR: right(90), OWN: right(80)}, OWN) == LINEAR
    assert choice._better({LINEAR: right(98)}, OWN) == LINEAR, "no other one was tried"


def test_activations_are_read_where_a_learner_may_need_them():
    assert reads_activations(FINETUNE, 10 * MOST_ACTIVATED)
    assert reads_activations("auto", MOST_ACTIVATED)
    assert not reads_activations("auto", MOST_ACTIVATED + 1)
    assert not any(reads_activations(name, 10) for name in (LINEAR, OWN))
