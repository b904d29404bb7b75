from dataclasses import replace

import numpy as np
import pytest
import torch
from support.images import halves

from model.data.bank import ImageBank
from model.errors import BadInput, ModelError, UnknownName
from model.learners.own_network import RECIPES, FitSettings, Learner, fit_network
from model.networks.initialization import choose_start
from model.networks.main import Parts
from model.pretext.run import train_pretext
from model.problems import problem
from model.querying.outputs import FEATURES
from model.training.loop import read_weights, write_weights

SINGLE = problem("single_label")
EMBEDDINGS = frozenset({"embeddings"})


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner")
    images, labels = halves(300)
    bank = ImageBank.create(folder / "bank", 16)
    bank.append(images)
    weights = folder / "pretext.pt"
    train_pretext("rotation", bank, out=weights, checkpoint=folder / "c.pt", epochs=1, device="cpu")
    return bank, labels, weights


FILES = ("out", "checkpoint", "pretext_weights", "progress")


def run(experiment, folder, n=20, **more):
    bank, labels, weights = experiment
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt", "pretext_weights": weights}
    settings = {"device": "cpu", "epochs": 8}
    for name, value in more.items():
        (files if name in FILES else settings)[name] = value
    return fit_network(bank, np.arange(n), labels[:n], SINGLE, ["left", "right"], FitSettings(**settings), **files)


@pytest.mark.parametrize("init", ["pretext", "scratch"])
def test_fit_learns_from_a_few_labels(experiment, tmp_path, init):
    bank, labels, _ = experiment
    summary = run(experiment, tmp_path, init=init)
    assert (summary.init, summary.network, summary.epochs) == (init, "compact", 8)
    learner, names = Learner.load(tmp_path / "m.pt", device="cpu"), ["left", "right"]
    targets = [names[label] for label in labels]
    assert learner.evaluate(bank, np.arange(20), targets[:20], names) == 1.0
    assert learner.evaluate(bank, np.arange(20, 300), targets[20:], names) > 0.9
    assert not (tmp_path / "c.pt").exists()


def test_fit_starts_from_the_pretext_backbone(experiment):
    bank, _, weights = experiment
    start = choose_start("pretext", "auto", weights, bank.side)
    backbone = start.build(bank.side, SINGLE, 2, 0, Parts()).backbone.state_dict()
    trained = read_weights(weights)["module"]
    assert all(torch.equal(value, trained[f"backbone.{key}"]) for key, value in backbone.items())


def test_fit_from_scratch_where_the_pretext_network_is_another(experiment, tmp_path):
    assert run(experiment, tmp_path, network="resnet18", epochs=1, n=4).init == "scratch"
    assert run(experiment, tmp_path, pretext_weights=None, epochs=1, n=4).init == "scratch"


def test_fit_does_not_go_on_from_the_checkpoint_of_another_start(experiment, tmp_path, monkeypatch):
    often = replace(RECIPES["auto"], plan=replace(RECIPES["auto"].plan, checkpoint_s=0.0))
    monkeypatch.setitem(RECIPES, "auto", often)  # a quick machine would stop before the first checkpoint

    def stop(share):
        if share > 0.5:
            raise KeyboardInterrupt

    run(experiment, tmp_path / "calm", init="pretext")
    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path, pretext_weights=drawn_anew(experiment[2], tmp_path / "p.pt"), progress=stop)
    assert (tmp_path / "c.pt").exists()
    run(experiment, tmp_path, init="pretext")
    calm, found = (read_weights(folder / "m.pt")["module"] for folder in (tmp_path / "calm", tmp_path))
    assert all(torch.equal(value, found[key]) for key, value in calm.items())


def drawn_anew(weights, path):
    """Write pretext weights as another training of the same task and network could have left them."""
    content = read_weights(weights)
    for value in content["module"].values():
        if value.is_floating_point():
            value.add_(0.01)
    write_weights(path, content)
    return path


def test_fit_does_not_use_a_backbone_that_is_of_no_use(experiment, tmp_path):
    content = read_weights(experiment[2])
    content["backbone_prefix"] = None
    write_weights(tmp_path / "p.pt", content)
    assert run(experiment, tmp_path, pretext_weights=tmp_path / "p.pt", epochs=1).init == "scratch"


@pytest.mark.parametrize(("n", "classes"), [(1, 1), (1, 3), (2, 2), (7, 5)])
def test_fit_works_from_one_label_and_one_class_on(experiment, tmp_path, n, classes):
    bank, _, weights = experiment
    fit_network(
        bank, np.arange(n), np.arange(n) % classes, SINGLE, list("abcde"[:classes]),
        FitSettings(device="cpu", epochs=2), out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt",
        pretext_weights=weights,
    )  # fmt: skip
    probs = Learner.load(tmp_path / "m.pt", device="cpu").predict(bank).probs
    assert probs.shape == (300, classes)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)


def test_fit_repeats_with_its_seed(experiment, tmp_path):
    bank = experiment[0]
    probs = []
    for seed in (0, 0, 1):
        run(experiment, tmp_path, epochs=2, seed=seed)
        probs.append(Learner.load(tmp_path / "m.pt", device="cpu").predict(bank).probs)
    np.testing.assert_array_equal(probs[0], probs[1])
    assert not np.array_equal(probs[0], probs[2])


def test_fit_goes_on_after_a_stop_to_the_same_weights(experiment, tmp_path, monkeypatch):

    import model.learners.own_network as learner

    recipe = learner.RECIPES["auto"]
    monkeypatch.setitem(learner.RECIPES, "auto", replace(recipe, plan=replace(recipe.plan, checkpoint_s=0.0)))
    monkeypatch.setattr("model.training.loop.REPORT_EVERY_S", 0.0)
    run(experiment, tmp_path)
    undisturbed = read_weights(tmp_path / "m.pt")["module"]

    def stop(share):
        if share > 0.5:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        run(experiment, tmp_path, out=tmp_path / "n.pt", progress=stop)
    assert not (tmp_path / "n.pt").exists()
    shares = []
    run(experiment, tmp_path, out=tmp_path / "n.pt", progress=shares.append)
    resumed = read_weights(tmp_path / "n.pt")["module"]
    assert shares[0] > 0
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)


def test_fit_mirrors_only_where_pool_and_labels_allow_it(experiment, tmp_path):
    assert not run(experiment, tmp_path, epochs=1).mirrored  # the mirror image of a picture is of the other class
    bank, labels, weights = experiment
    assert run((bank, np.zeros_like(labels), weights), tmp_path, epochs=1).mirrored
    images, _ = halves(300)
    one_sided = images[experiment[1] == 0]
    bank = ImageBank.create(tmp_path / "bank", 16)
    bank.append(one_sided)
    assert not run((bank, np.zeros(300, np.int64), None), tmp_path, epochs=1).mirrored


@pytest.mark.parametrize(
    ("indices", "labels", "classes"),
    [([], [], 2), ([0, 1], [0], 2), ([0], [2], 2), ([0], [-1], 2), ([300], [0], 2), ([-1], [0], 2)],
)
def test_fit_refuses_labels_that_do_not_fit(experiment, tmp_path, indices, labels, classes):
    with pytest.raises(BadInput):
        fit_network(
            experiment[0], np.array(indices, np.int64), np.array(labels, np.int64), SINGLE, list("abcde"[:classes]),
            FitSettings(device="cpu"), out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt",
        )  # fmt: skip


@pytest.mark.parametrize("change", [{"network": "origami"}, {"init": "origami"}, {"recipe": "origami"}])
def test_fit_refuses_unknown_names(experiment, tmp_path, change):
    with pytest.raises(UnknownName, match="origami"):
        run(experiment, tmp_path, **change)


def test_predict_gives_the_rows_asked_for(experiment, tmp_path):
    bank = experiment[0]
    run(experiment, tmp_path, epochs=1)
    learner = Learner.load(tmp_path / "m.pt", device="cpu")
    whole = learner.predict(bank, needs=EMBEDDINGS)
    some = learner.predict(bank, np.array([299, 0, 7]), needs=EMBEDDINGS)
    assert (whole.probs.dtype, whole.embeddings.dtype) == (np.float32, FEATURES)
    assert whole.embeddings.shape == (300, 256)
    np.testing.assert_allclose(some.probs, whole.probs[[299, 0, 7]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(some.embeddings, whole.embeddings[[299, 0, 7]], rtol=2e-3, atol=2e-4)
    assert learner.predict(bank).embeddings is None
    assert learner.predict(bank, np.empty(0, np.int64)).probs.shape == (0, 2)


def test_predict_is_the_softmax_of_the_saved_network(experiment, tmp_path):
    bank = experiment[0]
    run(experiment, tmp_path, epochs=1)
    learner = Learner.load(tmp_path / "m.pt", device="cpu")
    state = read_weights(tmp_path / "m.pt")["module"]
    outputs = learner.predict(bank, np.arange(5), needs=EMBEDDINGS)
    logits = outputs.embeddings.astype(np.float32) @ state["head.weight"].numpy().T + state["head.bias"].numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs.probs, expected, rtol=1e-2)  # features are kept with three digits


def test_predict_reports_progress(experiment, tmp_path):
    run(experiment, tmp_path, epochs=1)
    shares = []
    Learner.load(tmp_path / "m.pt", device="cpu").predict(experiment[0], progress=shares.append)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_learner_that_is_not_there_or_damaged_is_refused(experiment, tmp_path):
    with pytest.raises(ModelError, match="no weights"):
        Learner.load(tmp_path / "nowhere.pt")
    (tmp_path / "m.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        Learner.load(tmp_path / "m.pt")
    with pytest.raises(ModelError, match="no main model"):
        Learner.load(experiment[2])  # pretext weights


def test_learner_refuses_a_bank_of_another_side(experiment, tmp_path):
    run(experiment, tmp_path, epochs=1)
    with pytest.raises(BadInput, match="16 pixels, the bank has 32"):
        Learner.load(tmp_path / "m.pt", device="cpu").predict(ImageBank.create(tmp_path / "bank", 32))


@pytest.mark.parametrize(
    ("labels", "side", "epochs"),
    [(1, 32, 30), (64, 32, 30), (100, 32, 30), (400, 32, 35), (10_000, 32, 24), (100, 16, 45)],
)
def test_recipe_gives_more_labels_more_steps_and_fewer_epochs_but_24_at_least(labels, side, epochs):
    # 120 minibatches of 64 at 100 labels, with the root of the labels beyond: 240 at 400, in 7 minibatches an epoch.
    assert RECIPES["auto"].epochs(labels, side) == epochs


def test_recipe_of_the_paper_has_200_epochs():
    assert RECIPES["paper"].epochs(1000, 32) == 200
