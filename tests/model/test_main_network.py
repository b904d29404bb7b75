"""What strategies put beside the head of the main model, and what it costs those who do not ask for it."""

import numpy as np
import pytest
import torch
from support.images import halves

from model.data.bank import ImageBank
from model.errors import BadInput, UnknownName
from model.learners.learner import PASSES, mutual_information
from model.learners.own_network import FitSettings, Learner, fit_network
from model.networks.backbones import NETWORKS, Network, build_backbone
from model.networks.initialization import Start, choose_start
from model.networks.main import DROPOUT, MEMBERS, LossPrediction, MainNetwork, Parts
from model.problems import problem
from model.problems.single_label import entropies
from model.training.loop import read_weights

SINGLE, NAMES = problem("single_label"), ["left", "right"]
NEEDS = (
    "mutual_information", "dropout_entropy", "dropout_probs", "ensemble_probs", "predicted_losses", "detached_losses",
    "critic", "task_aware_probability", "logits", "graph_features", "labeled_probability", "turned_embeddings",
)  # fmt: skip
FREE = NEEDS[-4:]  # every model gives them


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main")
    images, labels = halves(90)
    bank = ImageBank.create(folder / "bank", 16)
    bank.append(images)
    return bank, labels


def run(experiment, folder, *needs, n=20, **more):
    bank, labels = experiment
    progress = {"progress": more.pop("progress")} if "progress" in more else {}
    settings = FitSettings(**{"init": "scratch", "needs": frozenset(needs), "device": "cpu", "epochs": 2, **more})
    files = {"out": folder / "m.pt", "checkpoint": folder / "c.pt"}
    summary = fit_network(bank, np.arange(n), labels[:n], SINGLE, NAMES, settings, **files, **progress)
    return summary, Learner.load(folder / "m.pt", device="cpu")


def test_a_network_without_parts_has_the_weights_of_a_plain_one():
    plain, bare = (
        torch.random.manual_seed(0) and build(build_backbone("compact", 16, seed=0))
        for build in (lambda body: Network(body, 3), lambda body: MainNetwork(body, SINGLE.head(body.dim, 3), Parts()))
    )
    state = bare.state_dict()
    assert list(state) == list(plain.state_dict())
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_levels_are_the_means_of_the_stages_and_the_embedding_is_the_same(name):
    backbone = build_backbone(name, 16, seed=0).eval()
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        embedded, levels = backbone.with_levels(images)
        assert torch.equal(embedded, backbone(images))
    assert tuple(level.shape[1] for level in levels) == backbone.level_widths
    torch.testing.assert_close(levels[-1], embedded)  # the last stage is what the backbone pools itself
    assert not any(module._forward_hooks for module in backbone.modules())


@pytest.mark.parametrize("losses", ["attached", "detached"])
def test_gradients_of_the_predicted_loss_reach_the_backbone_only_when_attached(losses):
    network = MainNetwork(build_backbone("compact", 16, seed=0), SINGLE.head(256, 2), Parts(losses=losses))
    _, predicted = network.forward_all(torch.rand(4, 3, 16, 16))
    predicted.sum().backward()
    reached = [parameter.grad is not None for parameter in network.backbone.parameters()]
    assert any(reached) is (losses == "attached")
    assert all(parameter.grad is not None for parameter in network.losses.parameters())


def test_loss_prediction_gives_one_number_an_image():
    module = LossPrediction([3, 5])
    assert module([torch.rand(4, 3), torch.rand(4, 5)]).shape == (4,)


@pytest.mark.parametrize("need", NEEDS)
def test_a_need_that_a_fit_was_told_of_is_served_for_the_whole_pool(experiment, tmp_path, need):
    _, learner = run(experiment, tmp_path, need)
    outputs = learner.predict(experiment[0], needs=frozenset({need}))
    array = getattr(outputs, need)
    shapes = {"ensemble_probs": (MEMBERS, 90, 2), "dropout_probs": (PASSES, 90, 2)}
    shapes |= {"logits": (90, 2), "graph_features": (90, 128), "turned_embeddings": (90, 4, 256)}
    assert array.shape == shapes.get(need, (90,))
    assert np.isfinite(array).all()
    assert len(np.unique(array)) > 50  # it tells images apart
    others = set(NEEDS) - {need}
    assert all(getattr(outputs, name) is None for name in others)
    again = learner.predict(experiment[0], needs=frozenset({need}))
    np.testing.assert_array_equal(array, getattr(again, need))


@pytest.mark.parametrize("need", NEEDS[: -len(FREE)])
def test_a_need_that_a_fit_was_not_told_of_is_refused(experiment, tmp_path, need):
    _, learner = run(experiment, tmp_path, epochs=1)
    with pytest.raises(BadInput, match=f"not trained to give {need}"):
        learner.predict(experiment[0], needs=frozenset({need}))
    with pytest.raises(BadInput, match="labeled_probability"):
        learner.predict(experiment[0], np.arange(3), needs=frozenset({"labeled_probability"}))


def test_turned_embeddings_are_those_of_the_images_by_quarter_turns(experiment, tmp_path):
    bank, _ = experiment
    _, learner = run(experiment, tmp_path)
    needs = frozenset({"turned_embeddings", "embeddings"})
    outputs = learner.predict(bank, needs=needs)
    np.testing.assert_array_equal(outputs.turned_embeddings[:, 0], outputs.embeddings)
    for quarters in range(1, 4):
        turned = ImageBank.create(tmp_path / f"turned-{quarters}", bank.side)
        turned.append(np.rot90(bank.gather(np.arange(len(bank))), quarters, axes=(1, 2)))
        expected = learner.predict(turned, needs=needs).embeddings
        np.testing.assert_allclose(outputs.turned_embeddings[:, quarters], expected, rtol=5e-3, atol=1e-3)
        assert not np.allclose(expected, outputs.embeddings, rtol=5e-3, atol=1e-3)


def test_needs_that_take_no_training_leave_the_model_as_it_is(experiment, tmp_path):
    plain, served = (
        run(experiment, tmp_path, *needs)[1].predict(experiment[0]).probs for needs in ((), (*FREE, "probs"))
    )
    np.testing.assert_array_equal(plain, served)


def test_the_first_member_of_an_ensemble_is_the_single_model_and_the_others_are_not(experiment, tmp_path):
    single = run(experiment, tmp_path)[1].predict(experiment[0]).probs
    outputs = run(experiment, tmp_path, "ensemble_probs")[1].predict(experiment[0], needs=frozenset({"ensemble_probs"}))
    np.testing.assert_array_equal(outputs.probs, single)
    np.testing.assert_array_equal(outputs.ensemble_probs[0], single)
    distances = [
        np.abs(outputs.ensemble_probs[a] - outputs.ensemble_probs[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert min(distances) > 1e-3


def test_an_ensemble_reports_one_progress_and_leaves_no_checkpoint(experiment, tmp_path):
    shares = []
    run(experiment, tmp_path, "ensemble_probs", progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert not list(tmp_path.glob("c*.pt"))


def test_mutual_information_by_hand():
    disagree, unsure, agree = ([1.0, 0.0], [0.0, 1.0]), ([0.5, 0.5], [0.5, 0.5]), ([1.0, 0.0], [1.0, 0.0])
    found = mutual_information(torch.tensor([disagree, unsure, agree]))  # (3 images, 2 passes, 2 classes)
    assert found.tolist() == pytest.approx([np.log(2), 0, 0])


def test_mutual_information_of_the_pool_is_that_of_its_passes_by_the_definition(experiment, tmp_path):
    _, learner = run(experiment, tmp_path, "mutual_information", epochs=8)
    outputs = learner.predict(experiment[0], needs=frozenset({"mutual_information", "embeddings"}))
    masks, head = learner._masks(), learner.network.head
    with torch.inference_mode():
        passes = head(torch.from_numpy(outputs.embeddings).float() * masks[:, None]).softmax(dim=2).numpy()  # (T, N, C)
    assert passes.shape == (PASSES, 90, 2)
    expected = entropies(passes.mean(axis=0)) - entropies(passes).mean(axis=0)
    np.testing.assert_allclose(
        outputs.mutual_information, expected, rtol=2e-2, atol=1e-6
    )  # features are kept with three digits
    of_mean = learner.predict(experiment[0], needs=frozenset({"dropout_entropy"})).dropout_entropy
    np.testing.assert_allclose(of_mean, entropies(passes.mean(axis=0)), rtol=2e-2, atol=1e-4)
    assert outputs.mutual_information.max() > 1e-3
    assert np.abs(passes.mean(axis=0) - outputs.probs).mean() < 0.15


def test_dropout_masks_keep_half_and_are_scaled(experiment, tmp_path):
    masks = run(experiment, tmp_path, "mutual_information", epochs=1)[1]._masks()
    assert masks.unique().tolist() == [0.0, 1 / (1 - DROPOUT)]
    assert float(masks.mean()) == pytest.approx(1, abs=0.05)


def test_predicted_losses_are_higher_where_labels_contradict_the_picture(experiment, tmp_path):
    """Half of the bright-left pictures are called the other class: their loss cannot be low, whatever is learned."""
    bank, labels = experiment
    noisy = labels.copy()
    left = np.flatnonzero(labels[:60] == 0)
    noisy[left[::2]] = 1
    fit_network(
        bank, np.arange(60), noisy[:60], SINGLE, NAMES,
        FitSettings(init="scratch", needs=frozenset({"predicted_losses"}), epochs=12, device="cpu"),
        out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt",
    )  # fmt: skip
    outputs = Learner.load(tmp_path / "m.pt", device="cpu").predict(bank, needs=frozenset({"predicted_losses"}))
    predicted, unseen = outputs.predicted_losses, np.arange(60, 90)
    assert predicted[unseen][labels[unseen] == 0].mean() > predicted[unseen][labels[unseen] == 1].mean()


@pytest.mark.parametrize(("joint", "epochs"), [("barlow_twins", 6), ("dalbt", 12)])
def test_joint_training_learns_the_labels_too_and_leaves_its_projector_behind(experiment, tmp_path, joint, epochs):
    bank, labels = experiment
    _, learner = run(experiment, tmp_path, joint=joint, epochs=epochs)
    assert learner.evaluate(bank, np.arange(20, 90), [NAMES[label] for label in labels[20:]], NAMES) > 0.9
    assert not [key for key in read_weights(tmp_path / "m.pt")["module"] if key.startswith("projector")]


def test_joint_training_trains_on_the_pool_besides(experiment, tmp_path):
    alone, joint = (
        run(experiment, tmp_path, joint=name)[1].predict(experiment[0]).probs for name in ("none", "barlow_twins")
    )
    assert np.abs(alone - joint).max() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("need", ["predicted_losses", "mutual_information", "labeled_probability"])
def test_parts_work_from_one_label_on(experiment, tmp_path, need, n):
    _, learner = run(experiment, tmp_path, need, n=n, joint="barlow_twins", epochs=1)
    assert np.isfinite(getattr(learner.predict(experiment[0], needs=frozenset({need})), need)).all()


def test_an_unknown_joint_training_is_refused(experiment, tmp_path):
    with pytest.raises(UnknownName, match=r"joint training 'twins'.*barlow_twins, dalbt, none"):
        run(experiment, tmp_path, joint="twins")


# -- init: previous


def goes_on(experiment, folder, before, *needs, names=NAMES, **more):
    """Fit on 30 labels from the model at ``before``; return the summary and the weights."""
    bank, labels = experiment
    settings = FitSettings(
        **{"init": "previous", "needs": frozenset(needs), "device": "cpu", "epochs": 1, "network": "compact", **more},
        previous=before,
    )
    summary = fit_network(
        bank, np.arange(30), labels[:30], SINGLE, names, settings,
        out=folder / "next.pt", checkpoint=folder / "c.pt",
    )  # fmt: skip
    return summary, read_weights(folder / "next.pt")


def test_a_fit_goes_on_from_the_last_rounds_weights(experiment, tmp_path, monkeypatch):
    run(experiment, tmp_path, network="compact")
    monkeypatch.setattr("model.training.loop._Sgd.step", lambda *_: None)  # what is left are the first weights
    summary, found = goes_on(experiment, tmp_path, tmp_path / "m.pt")
    assert summary.init == "previous"
    before = read_weights(tmp_path / "m.pt")["module"]
    weights = [key for key in before if "running" not in key and "batches" not in key]
    assert all(torch.equal(found["module"][key], before[key]) for key in weights)


def test_without_a_last_model_or_with_another_network_a_fit_begins_from_random_weights(experiment, tmp_path):
    assert goes_on(experiment, tmp_path, None)[0].init == "scratch"
    assert goes_on(experiment, tmp_path, tmp_path / "missing.pt")[0].init == "scratch"
    run(experiment, tmp_path, network="compact")
    assert goes_on(experiment, tmp_path, tmp_path / "m.pt", network="resnet18")[0].init == "scratch"


def test_a_class_that_came_since_begins_a_new_head(experiment, tmp_path, monkeypatch):
    run(experiment, tmp_path, network="compact")
    monkeypatch.setattr("model.training.loop._Sgd.step", lambda *_: None)
    summary, found = goes_on(experiment, tmp_path, tmp_path / "m.pt", names=[*NAMES, "above"])
    before = read_weights(tmp_path / "m.pt")["module"]
    assert (summary.init, found["module"]["head.weight"].shape) == ("previous", (3, 256))
    assert torch.equal(found["module"]["backbone.layers.0.weight"], before["backbone.layers.0.weight"])


def test_members_of_an_ensemble_go_on_from_their_own_weights(experiment, tmp_path, monkeypatch):
    run(experiment, tmp_path, "ensemble_probs", network="compact")
    monkeypatch.setattr("model.training.loop._Sgd.step", lambda *_: None)
    _, found = goes_on(experiment, tmp_path, tmp_path / "m.pt", "ensemble_probs")
    before, key = read_weights(tmp_path / "m.pt"), "head.weight"
    assert torch.equal(found["module"][key], before["module"][key])
    assert [torch.equal(a[key], b[key]) for a, b in zip(found["others"], before["others"], strict=True)] == [True] * 2
    assert not torch.equal(found["module"][key], found["others"][0][key])


def test_what_is_said_of_a_held_out_fold_never_comes_from_a_model_that_has_learned_it(experiment, tmp_path):
    """A cross-validation begins from random weights, whatever the last round's model has learned."""
    run(experiment, tmp_path, network="compact")
    start = choose_start("previous", "auto", None, 16, tmp_path / "m.pt")
    assert (start.init, len(start.previous)) == ("previous", 1)
    held, plain = (
        s.build(16, SINGLE, 2, seed=0, parts=Parts()).state_dict() for s in (start, Start("compact", "scratch"))
    )
    assert all(torch.equal(held[key], plain[key]) for key in plain)


def test_logits_are_those_of_the_posterior(experiment, tmp_path):
    outputs = run(experiment, tmp_path)[1].predict(experiment[0], needs=frozenset({"logits"}))
    powers = np.exp(outputs.logits)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), outputs.probs, rtol=1e-4)


def test_a_critic_learns_what_is_unlabeled(experiment, tmp_path):
    """All labeled images are of one side: the others are told from them, though the features are to hide it."""
    bank, labels = experiment
    left = np.flatnonzero(labels == 0)[:20]
    fit_network(
        bank, left, np.arange(20) % 2, SINGLE, NAMES,
        FitSettings(init="scratch", needs=frozenset({"critic"}), epochs=20, device="cpu", network="compact"),
        out=tmp_path / "m.pt", checkpoint=tmp_path / "c.pt",
    )  # fmt: skip
    critic = Learner.load(tmp_path / "m.pt", device="cpu").predict(bank, needs=frozenset({"critic"})).critic
    assert critic[labels == 1].mean() > critic[left].mean()
