"""A linear head on frozen features, against scikit-learn's and on toy pools."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support.images import bank_of, noise

from model.data.features import FeatureBank
from model.errors import BadInput, ModelError, UnknownName
from model.learners import linear
from model.learners.base import PoolImages, evaluate
from model.learners.fitting import fit, load_model
from model.learners.linear import LinearModel, fit_linear
from model.learners.linear_head import LinearHead
from model.learners.scaling import Scaling
from model.learners.settings import FitSettings
from model.problems import PROBLEMS
from model.querying.samplers import SAMPLERS

SINGLE, MULTI = PROBLEMS["single_label"], PROBLEMS["multi_label"]
N, LAST, MID = 300, 24, 8
CLASSES = ["ant", "bee", "cat"]


def rng(seed=0):
    return np.random.default_rng(seed)


def pool_of(folder, features, known=None, last=LAST):
    """Return a pool with these features; its images are not looked at."""
    bank = FeatureBank.create(folder / "features", "a", 128, features.shape[1], last)
    indices = np.arange(len(features)) if known is None else known
    bank.write(indices, features[indices].astype(np.float16))
    return PoolImages(bank_of(folder / "bank", noise(len(features), side=1)), bank)


def clusters(classes=3, n=N, spread=0.7, seed=0):
    """Return features like those of an encoder, not negative, (n, LAST + MID), and the class of each image (n,)."""
    generator = rng(seed)
    truth = generator.integers(0, classes, n)
    centres = generator.gamma(0.5, 1.0, (classes, LAST + MID))
    return np.abs(centres[truth] + spread * generator.normal(size=(n, LAST + MID))), truth


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    features, truth = clusters()
    return pool_of(tmp_path_factory.mktemp("toy"), features), truth


def learn(pool, indices, truth, out, of=SINGLE, classes=CLASSES, **more):
    summary = fit_linear(pool.features, np.asarray(indices), np.asarray(truth), of, classes, out=out, **more)
    return LinearModel.load(out), summary


def softmax(raw):
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("c", [1.0, 64.0])
def test_a_head_is_the_multinomial_regression_of_scikit_learn(n, c):
    x, truth = clusters(n=n)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weight, bias = LinearHead(SINGLE, 3, c).fit(x, truth)
    oracle = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(x, truth)
    new = clusters(n=40, seed=1)[0]
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(new @ weight + bias), oracle.predict_proba(new), atol=5e-3)


def test_a_head_of_each_class_for_itself_is_the_binary_regression_of_scikit_learn():
    x, truth = clusters(n=80)
    there = np.stack([truth == 0, truth > 0], axis=1).astype(np.float32)
    weight, bias = LinearHead(MULTI, 2, 4.0).fit(x, there)
    for column in range(2):
        oracle = LogisticRegression(C=4.0, tol=1e-8, max_iter=10_000).fit(x, there[:, column])
        np.testing.assert_allclose(x @ weight[:, column] + bias[column], oracle.decision_function(x), atol=2e-2)


def test_a_head_does_not_depend_on_whether_there_are_more_rows_or_more_columns():
    x, truth = clusters(n=50)
    turn = np.linalg.qr(rng(2).normal(size=(80, x.shape[1])))[0].T  # into more columns than rows, without a change
    head = LinearHead(SINGLE, 3, 16.0)
    narrow, wide = head.fit(x, truth), head.fit(x @ turn, truth)
    np.testing.assert_allclose(x @ turn @ wide[0] + wide[1], x @ narrow[0] + narrow[1], atol=2e-2)


def test_a_model_of_few_labels_learns_the_classes(toy, tmp_path):
    pool, truth = toy
    model, _ = learn(pool, range(24), truth[:24], tmp_path / "m.pt")
    assert evaluate(model, pool, np.arange(24, N), [CLASSES[c] for c in truth[24:]], CLASSES) > 0.9
    with pytest.raises(BadInput, match="no images to measure"):
        evaluate(model, pool, np.arange(0), [], CLASSES)


def test_two_labels_are_enough(toy, tmp_path):
    pool, truth = toy
    two = [int(np.flatnonzero(truth == c)[0]) for c in (0, 1)]
    model, summary = learn(pool, two, truth[two], tmp_path / "m.pt")
    assert (summary.likelihood, summary.features, model.temperature) == ({}, "both", 1.0)
    probs = model.predict_pool(pool).probs
    assert np.isfinite(probs).all()
    assert probs[two].argmax(axis=1).tolist() == [0, 1]


def test_the_default_is_the_mean_of_a_head_on_the_last_layer_and_one_on_everything(toy, tmp_path):
    pool, truth = toy
    labeled = np.array([int(np.flatnonzero(truth == c)[0]) for c in range(3)])  # too few to choose by
    model, summary = learn(pool, labeled, truth[labeled], tmp_path / "m.pt")
    rows, raw = pool.features.gather(np.arange(N)), []
    for columns in (LAST, LAST + MID):
        x = Scaling.of(pool.features, columns).apply(rows)
        weight, bias = LinearHead(SINGLE, 3, linear.C).fit(x[labeled], truth[labeled])
        raw.append(x @ weight + bias)
    assert summary.features == "both"
    np.testing.assert_allclose(model.predict_pool(pool).probs, softmax(np.mean(raw, axis=0)), atol=1e-4)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_labels_of_one_class_give_that_class(toy, tmp_path, n):
    pool, _ = toy
    model, _ = learn(pool, range(n), np.full(n, 1), tmp_path / "m.pt")
    probs = model.predict_pool(pool).probs
    assert np.isfinite(probs).all()
    assert (probs.argmax(axis=1) == 1).all()


def test_a_class_with_one_label_is_learned(toy, tmp_path):
    pool, truth = toy
    common, one = np.flatnonzero(truth < 2)[:20], np.flatnonzero(truth == 2)[0]
    indices = np.append(common, one)
    model, summary = learn(pool, indices, truth[indices], tmp_path / "m.pt")
    assert all(np.isfinite(value) for value in summary.likelihood.values())
    assert model.predict_pool(pool).probs[one].argmax() == 2


def test_several_classes_an_image_are_learned(tmp_path):
    features, kinds = clusters(classes=4, n=200)
    there = np.stack([kinds % 2, kinds // 2], axis=1).astype(np.float32)
    pool, names = pool_of(tmp_path, features), ["odd", "large"]
    model, _ = learn(pool, range(60), there[:60], tmp_path / "m.pt", of=MULTI, classes=names)
    targets = [[name for name, yes in zip(names, row, strict=True) if yes] for row in there[60:]]
    assert evaluate(model, pool, np.arange(60, 200), targets, names) > 0.9
    assert len(model.decoding["thresholds"]) == 2


@pytest.mark.parametrize(("informative", "chosen"), [(slice(None, LAST), "last"), (slice(LAST, None), "last+mid")])
def test_cross_validation_picks_the_features_that_tell_the_classes(tmp_path, informative, chosen):
    signal, truth = clusters(spread=0.4)
    features = rng(5).gamma(0.5, 1.0, signal.shape) * 2
    features[:, informative] = signal[:, informative]
    _, summary = learn(pool_of(tmp_path, features), range(60), truth[:60], tmp_path / "m.pt")
    assert summary.features == chosen
    assert summary.likelihood[chosen] == max(summary.likelihood.values())
    assert set(summary.likelihood) == {"both", "last", "last+mid"}


def test_a_fit_is_deterministic_and_its_folds_follow_the_seed(toy, tmp_path):
    pool, truth = toy
    fits = [learn(pool, range(40), truth[:40], tmp_path / f"{n}.pt", seed=s) for n, s in enumerate((0, 0, 1))]
    first, again, other = (model.predict_pool(pool).probs for model, _ in fits)
    np.testing.assert_array_equal(first, again)
    assert fits[0][1].likelihood == fits[1][1].likelihood != fits[2][1].likelihood
    assert (first.argmax(axis=1) == other.argmax(axis=1)).mean() > 0.95


def test_many_labels_are_cross_validated_on_drawn_ones(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "MOST_FOLDED", 30)
    pool, truth = toy
    model, summary = learn(pool, range(200), truth[:200], tmp_path / "m.pt")
    assert all(-3 < value < 0 for value in summary.likelihood.values())
    assert np.isfinite(model.predict_pool(pool).probs).all()


def test_confidences_are_more_honest_for_their_temperature(tmp_path):
    features, truth = clusters(spread=1.2)
    noisy = np.where(rng(3).random(N) < 0.4, rng(4).integers(0, 3, N), truth)
    pool = pool_of(tmp_path, features)
    model, _ = learn(pool, range(100), noisy[:100], tmp_path / "m.pt")
    rest = np.arange(100, N)
    gaps = []
    for temperature in (1.0, model.temperature):
        model.temperature = temperature
        probs = model.predict_pool(pool, rest).probs
        gaps.append(abs(probs.max(axis=1).mean() - (probs.argmax(axis=1) == noisy[rest]).mean()))
    assert gaps[0] > 0.15  # much too sure
    assert gaps[1] < 0.7 * gaps[0]


def test_images_without_features_get_neutral_values(tmp_path):
    features, truth = clusters(n=60)
    known = np.setdiff1d(np.arange(60), [3, 50, 59])
    pool = pool_of(tmp_path, features, known)
    labeled = known[:20]
    model, _ = learn(pool, labeled, truth[labeled], tmp_path / "m.pt")
    outputs = model.predict_pool(pool, needs=frozenset({"embeddings"}))
    assert outputs.probs.shape == (60, 3)
    np.testing.assert_allclose(outputs.probs[[3, 50, 59]], 1 / 3)
    assert np.isfinite(outputs.probs).all()
    assert (outputs.probs[known].max(axis=1) > 0.34).all()
    assert not outputs.embeddings[[3, 50]].any()
    only = model.predict_pool(pool, np.array([59, 3]))
    np.testing.assert_allclose(only.probs, 1 / 3)


def test_a_part_of_the_pool_is_predicted_in_the_order_asked(toy, tmp_path):
    pool, truth = toy
    model, _ = learn(pool, range(30), truth[:30], tmp_path / "m.pt")
    needs = frozenset({"embeddings", "probs", "uncertainty"})
    whole = model.predict_pool(pool, needs=needs)
    for indices in (np.array([7, 2, 7]), np.arange(N)[::-1]):
        part = model.predict_pool(pool, indices, needs=needs)
        np.testing.assert_allclose(part.probs, whole.probs[indices], rtol=1e-5)
        np.testing.assert_array_equal(part.embeddings, whole.embeddings[indices])


@pytest.mark.parametrize("name", ["margin", "badge", "core_set", "uncertainty_herding", "class_balanced", "weibull"])
def test_samplers_can_be_served(toy, tmp_path, name):
    pool, truth = toy
    model, _ = learn(pool, range(30), truth[:30], tmp_path / "m.pt")
    needs = SAMPLERS[name].needs
    outputs = model.predict_pool(pool, needs=needs)
    assert all(getattr(outputs, need) is not None for need in needs & {"probs", "embeddings"})


def test_needs_that_only_a_network_serves_are_refused(toy, tmp_path):
    pool, truth = toy
    model, _ = learn(pool, range(30), truth[:30], tmp_path / "m.pt")
    with pytest.raises(BadInput, match="does not give ensemble_probs, mutual_information"):
        model.predict_pool(pool, needs=frozenset({"mutual_information", "ensemble_probs", "probs"}))


def test_labels_that_do_not_fit_are_refused(toy, tmp_path):
    pool, truth = toy
    for indices, labels, words in (
        ([], truth[:0], "found 0 labeled images"),
        ([0, 1], truth[:1], "2 labeled images and 1 labels"),
        ([0, N, N + 1], truth[:3], "2 of 3 labeled images have no features yet"),
        ([0, 1], np.array([0, 3]), "class"),
    ):
        with pytest.raises(BadInput, match=words):
            learn(pool, np.array(indices, np.int64), labels, tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_features_of_another_encoder_are_refused(toy, tmp_path):
    pool, truth = toy
    model, _ = learn(pool, range(30), truth[:30], tmp_path / "m.pt")
    other = FeatureBank.create(tmp_path / "other", "b", 128, LAST + MID, LAST)
    for features in (None, other):
        with pytest.raises(BadInput, match="needs the features of 'a' at 128 pixels"):
            model.predict_pool(PoolImages(pool.bank, features))


def test_a_file_that_is_missing_or_damaged_is_refused(toy, tmp_path):
    pool, truth = toy
    path = tmp_path / "m.pt"
    with pytest.raises(ModelError, match="no weights at"):
        LinearModel.load(path)
    learn(pool, range(30), truth[:30], path)
    path.write_bytes(path.read_bytes()[:-100])
    for load in (LinearModel.load, load_model):
        with pytest.raises(ModelError, match="or it is damaged"):
            load(path)


def test_a_problem_whose_head_is_not_linear_is_refused(toy, tmp_path, monkeypatch):
    from torch import nn

    pool, truth = toy
    monkeypatch.setattr(type(SINGLE), "head", lambda self, width, classes: nn.Sequential(nn.Linear(width, classes)))
    with pytest.raises(BadInput, match='is not linear: set "learner": "own"'):
        learn(pool, range(30), truth[:30], tmp_path / "m.pt")


# -- the choice of the learner


def fitted(pool, truth, folder, learner, **more):
    settings = FitSettings(learner=learner, init="scratch", epochs=1, device="cpu")
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt"}
    return fit(pool, np.arange(30), truth[:30], SINGLE, CLASSES, settings, **files, **more)


@pytest.mark.parametrize("learner", ["linear", "auto"])
def test_a_pool_with_features_gets_a_linear_head(toy, tmp_path, learner):
    pool, truth = toy
    shares = []
    found = fitted(pool, truth, tmp_path, learner, progress=shares.append)
    assert (found.learner, set(found.about)) == ("linear", {"features", "likelihood"})
    assert isinstance(load_model(tmp_path / "m.pt"), LinearModel)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_pool_without_features_gets_a_network_of_its_own(tmp_path):
    truth = rng().integers(0, 3, 40)
    pool = PoolImages(bank_of(tmp_path / "bank", noise(40, side=16)))
    found = fitted(pool, truth, tmp_path, "auto")
    assert found.learner == "own"
    model = load_model(tmp_path / "m.pt", device="cpu")
    assert model.predict_pool(pool, np.array([3, 1])).probs.shape == (2, 3)


def test_a_learner_that_does_not_exist_or_has_no_features_is_refused(tmp_path):
    pool = PoolImages(bank_of(tmp_path / "bank", noise(40, side=16)))
    truth = rng().integers(0, 3, 40)
    with pytest.raises(UnknownName, match=r"unknown learner 'origami': choose one of auto, .*linear, own"):
        fitted(pool, truth, tmp_path, "origami")
    with pytest.raises(BadInput, match="'linear' needs the features of an encoder"):
        fitted(pool, truth, tmp_path, "linear")
