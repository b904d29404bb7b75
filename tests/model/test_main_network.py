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
from model.networks.main import DROPOUT, MEMBERS, LossPrediction, MainNetwork, Parts
from model.problems import problem
from model.querying.samplers.entropy import entropy
from model.training.loop import read_weights

SINGLE, NAMES = problem("single_label"), ["left", "right"]
NEEDS = ("mutual_information", "ensemble_probs", "predicted_losses", "detached_losses", "labeled_probability")


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
    shapes = {"ensemble_probs": (MEMBERS, 90, 2)}
    assert array.shape == shapes.get(need, (90,))
    assert np.isfinite(array).all()
    assert len(np.unique(array)) > 50  # it tells images apart
    others = set(NEEDS) - {need}
    assert all(getattr(outputs, name) is None for name in others)
    again = learner.predict(experiment[0], needs=frozenset({need}))
    np.testing.assert_array_equal(array, getattr(again, need))


@pytest.mark.parametrize("need", NEEDS[:-1])
def test_a_need_that_a_fit_was_not_told_of_is_refused(experiment, tmp_path, need):
    _, learner = run(experiment, tmp_path, epochs=1)
    with pytest.raises(BadInput, match=f"not trained to give {need}"):
        learner.predict(experiment[0], needs=frozenset({need}))
    with pytest.raises(BadInput, match="labeled_probability"):
        learner.predict(experiment[0], np.arange(3), needs=frozenset({"labeled_probability"}))


def test_needs_that_take_no_training_leave_the_model_as_it_is(experiment, tmp_path):
    plain, served = (
        run(experiment, tmp_path, *needs)[1].predict(experiment[0]).probs
        for needs in ((), ("labeled_probability", "probs"))
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
    expected = entropy(passes.mean(axis=0)) - entropy(passes).mean(axis=0)
    np.testing.assert_allclose(
        outputs.mutual_information, expected, rtol=2e-2, atol=1e-6
    )  # features are kept with three digits
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


def test_joint_training_learns_the_labels_too_and_leaves_its_projector_behind(experiment, tmp_path):
    bank, labels = experiment
    _, learner = run(experiment, tmp_path, joint="barlow_twins", epochs=6)
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
    with pytest.raises(UnknownName, match=r"joint training 'twins'.*barlow_twins, none"):
        run(experiment, tmp_path, joint="twins")
