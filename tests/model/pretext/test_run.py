import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import bank_of, gradients

from model.data.bank import ImageBank
from model.errors import BadInput, ModelError, UnknownName
from model.lab.score_pretext import main
from model.networks.backbones import Network, build_backbone
from model.pretext.budget import epochs_within
from model.pretext.curve import fall_at_the_end
from model.pretext.registry import PRETEXT_TASKS, pretext_task
from model.pretext.run import CHUNK, extract_losses, load_pretext, read_pretext, train_pretext
from model.training.loop import Plan, read_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretext")
    bank = bank_of(folder / "bank", gradients(150))
    shares = []
    summary = train_pretext(
        "rotation",
        bank,
        out=folder / "w.pt",
        checkpoint=folder / "c.pt",
        epochs=2,
        device="cpu",
        progress=shares.append,
    )
    return bank, folder / "w.pt", summary, shares


# -- the contract, over the registry ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_task_gives_a_differentiable_loss_an_image(name):
    task = pretext_task(name)
    net = task.build(build_backbone("compact", 16, seed=0))
    loss = task.loss(net, torch.rand(6, 3, 16, 16), torch.Generator().manual_seed(0))
    assert (loss.shape, loss.dtype, task.name) == ((6,), torch.float32, name)
    loss.mean().backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_task_repeats_its_loss_with_its_generator(name):
    task = pretext_task(name)
    net = task.build(build_backbone("compact", 16, seed=0)).eval()
    images = torch.rand(6, 3, 16, 16)
    with torch.inference_mode():
        first, second = (task.loss(net, images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", PRETEXT_TASKS)
def test_task_hands_its_backbone_on_where_it_says_so(name):
    task = pretext_task(name)
    backbone = build_backbone("compact", 16, seed=0)
    state = task.build(backbone).state_dict()
    if task.backbone_prefix is not None:
        assert {task.backbone_prefix + key for key in backbone.state_dict()} <= set(state)


def test_unknown_task_lists_the_tasks():
    with pytest.raises(UnknownName, match="rotation"):
        pretext_task("origami")


# -- rotation -----------------------------------------------------------------------------------------------------


def test_rotation_loss_is_equation_1():
    task = pretext_task("rotation")
    net = task.build(build_backbone("compact", 16, seed=0)).eval()
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        loss = task.loss(net, images, torch.Generator())
        for image, value in zip(images, loss, strict=True):
            expected = 0.0
            for turn in range(4):
                turned = torch.from_numpy(np.ascontiguousarray(np.rot90(image.numpy(), turn, axes=(1, 2))))
                expected -= float(net(turned.unsqueeze(0)).log_softmax(dim=1)[0, turn]) / 4
            assert float(value) == pytest.approx(expected, rel=1e-4)


def test_rotation_head_has_four_outputs():
    net = pretext_task("rotation").build(build_backbone("resnet18", 32, seed=0))
    assert isinstance(net, Network)
    assert tuple(net.head.weight.shape) == (4, 512)


def test_rotation_accuracy_is_the_share_recognised():
    class AlwaysUpright(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([9.0, 0, 0, 0]).expand(len(images), 4)

    share = pretext_task("rotation").accuracy(AlwaysUpright(), torch.rand(5, 3, 8, 8), torch.Generator())
    assert share.tolist() == [0.25] * 5


# -- training -----------------------------------------------------------------------------------------------------


def test_train_pretext_learns_and_says_what_it_did(trained):
    _, weights, summary, shares = trained
    assert (summary.network, summary.epochs) == ("compact", 2)
    assert summary.accuracy > 0.9
    assert summary.seconds > 0
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert not weights.with_name("c.pt").exists()


def test_train_pretext_describes_its_weights(trained):
    _, weights, summary, _ = trained
    content = read_weights(weights)
    about = {key: content[key] for key in ("task", "network", "side", "seed", "epochs")}
    assert about == {"task": "rotation", "network": "compact", "side": 16, "seed": 0, "epochs": 2}
    assert content["accuracy"] == summary.accuracy


def test_train_pretext_returns_its_loss_curve(trained):
    _, _, summary, _ = trained
    assert len(summary.curve) == 2
    assert summary.curve[1] < summary.curve[0]


def test_train_pretext_takes_the_time_that_it_is_given(tmp_path, monkeypatch):
    bank = bank_of(tmp_path / "bank", gradients(12))
    monkeypatch.setattr("model.pretext.budget._seconds", lambda objective, images, plan: 0.5)
    training = train_pretext(
        "rotation", bank, out=tmp_path / "w", checkpoint=tmp_path / "c.pt", seconds=17, device="cpu"
    )
    assert training.epochs == 2  # an epoch has 16 minibatches
    assert {path.name for path in tmp_path.iterdir()} == {"bank", "w"}


def test_a_budget_times_real_minibatches_and_leaves_the_training_as_it_is(tmp_path):
    bank = bank_of(tmp_path / "bank", gradients(12))
    arguments = {"bank": bank, "checkpoint": tmp_path / "c.pt", "device": "cpu"}
    train_pretext("rotation", out=tmp_path / "budget", seconds=1, **arguments)
    content = read_weights(tmp_path / "budget")
    assert content["epochs"] >= 1
    train_pretext("rotation", out=tmp_path / "epochs", epochs=content["epochs"], **arguments)
    other = read_weights(tmp_path / "epochs")["module"]
    assert all(torch.equal(content["module"][key], other[key]) for key in other)


def test_a_killed_training_keeps_the_number_of_its_epochs(tmp_path):
    plan, checkpoint = Plan(8, 4, lr=0.1), tmp_path / "c.pt"
    with mock.patch("model.pretext.budget._seconds", return_value=0.1):
        assert epochs_within(2, None, 10, plan, {"task": "rotation"}, checkpoint) == 6  # of 3 minibatches each
    with mock.patch("model.pretext.budget._seconds", return_value=0.2):
        assert epochs_within(2, None, 10, plan, {"task": "rotation"}, checkpoint) == 6
        assert epochs_within(2, None, 10, plan, {"task": "jigsaw"}, checkpoint) == 3
        checkpoint.with_suffix(".budget").write_text("{")
        assert epochs_within(2, None, 10, plan, {"task": "jigsaw"}, checkpoint) == 3


@pytest.mark.parametrize(
    ("curve", "fall"),
    [([2.0, 1.0, 1.0], None), ([2.0, 1.5, 1.2, 1.0], 0.2), ([2.0, 1.0, 1.0, 1.0], 0.0), ([1.0, 1.0, 1.0, 1.2], None)],
)
def test_the_fall_at_the_end_of_a_curve_is_a_share_of_its_whole_fall(curve, fall):
    assert fall_at_the_end(curve) == (None if fall is None else pytest.approx(fall))


def test_train_pretext_killed_goes_on_to_the_same_weights(tmp_path):
    """Kill the process after its first checkpoint; the weights have to be those of an undisturbed training."""
    bank = bank_of(tmp_path / "bank", gradients(60))
    script = (
        "import sys; from pathlib import Path; from model.data.bank import ImageBank\n"
        "from model.pretext.run import train_pretext\n"
        "import model.training.loop; model.training.loop.REPORT_EVERY_S = 0.0\n"
        "import torch; torch.set_num_threads(int(sys.argv[2]))\n"  # sums of another order are other sums
        "folder = Path(sys.argv[1]); print('ready', flush=True)\n"
        "train_pretext('rotation', ImageBank.open(folder / 'bank'), out=folder / 'w.pt', checkpoint=folder / 'c.pt',"
        " epochs=3, device='cpu', progress=lambda share: print(share, flush=True))\n"
    )
    threads = str(torch.get_num_threads())
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path), threads], stdout=subprocess.PIPE) as process:
        for _ in process.stdout:
            if (tmp_path / "c.pt").exists():
                os.kill(process.pid, signal.SIGKILL)
                break
    assert not (tmp_path / "w.pt").exists()
    assert read_weights(tmp_path / "c.pt")["epoch"] < 2
    shares = []
    for name, checkpoint in (("w", "c"), ("undisturbed", "other")):
        train_pretext(
            "rotation", bank, out=tmp_path / f"{name}.pt", checkpoint=tmp_path / f"{checkpoint}.pt", epochs=3,
            device="cpu", progress=shares.append,
        )  # fmt: skip
    resumed, undisturbed = (read_weights(tmp_path / f"{name}.pt")["module"] for name in ("w", "undisturbed"))
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)
    assert shares[0] > 0


def test_train_pretext_of_the_paper_uses_resnet18_and_keeps_the_best_epoch(tmp_path):
    bank = bank_of(tmp_path / "bank", gradients(8))
    summary = train_pretext(
        "rotation", bank, out=tmp_path / "w.pt", checkpoint=tmp_path / "c.pt", recipe="paper", epochs=1, device="cpu"
    )
    assert summary.network == "resnet18"


@pytest.mark.parametrize("n", [1, 2, 70])
def test_train_pretext_works_from_one_image_on(tmp_path, n):
    bank = bank_of(tmp_path / "bank", gradients(n))
    train_pretext("rotation", bank, out=tmp_path / "w.pt", checkpoint=tmp_path / "c.pt", epochs=1, device="cpu")
    losses = extract_losses(bank, tmp_path / "w.pt", device="cpu")
    assert losses.shape == (n,)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"task": "origami"}, UnknownName),
        ({"network": "origami"}, UnknownName),
        ({"recipe": "origami"}, UnknownName),
        ({"device": "abacus"}, UnknownName),
        ({"epochs": 0}, BadInput),
    ],
)
def test_train_pretext_refuses_what_there_is_not(tmp_path, change, error):
    bank = bank_of(tmp_path / "bank", gradients(4))
    arguments = {
        "task": "rotation",
        "out": tmp_path / "w.pt",
        "checkpoint": tmp_path / "c.pt",
        "device": "cpu",
        **change,
    }
    with pytest.raises(error):
        train_pretext(arguments.pop("task"), bank, **arguments)


def test_train_pretext_refuses_an_empty_bank(tmp_path):
    with pytest.raises(BadInput, match="no images"):
        train_pretext(
            "rotation",
            ImageBank.create(tmp_path / "bank", 16),
            out=tmp_path / "w",
            checkpoint=tmp_path / "c",
            device="cpu",
        )


# -- extraction ---------------------------------------------------------------------------------------------------


def test_extraction_equals_the_tasks_loss(trained):
    bank, weights, _, _ = trained
    losses = extract_losses(bank, weights, device="cpu")
    assert (losses.shape, losses.dtype) == ((150,), np.float32)
    task, net = load_pretext(weights, 16, CPU)
    images = torch.from_numpy(bank.gather(np.array([0, 77, 149]))).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = task.loss(net, images, torch.Generator())
    np.testing.assert_allclose(losses[[0, 77, 149]], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_extraction_repeats_in_the_same_bits(trained):
    bank, weights, _, _ = trained
    first, second = (extract_losses(bank, weights, device="cpu") for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("cuts", [[0, 150], [0, 1, 150], [0, CHUNK, 150], [0, 40, 41, 130, 150], [0, 0, 150, 150]])
def test_extraction_does_not_depend_on_where_it_is_cut(trained, cuts):
    bank, weights, _, _ = trained
    whole = extract_losses(bank, weights, device="cpu")
    parts = [extract_losses(bank, weights, start=start, stop=stop, device="cpu") for start, stop in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_extraction_does_not_depend_on_images_added_later(trained, tmp_path):
    bank, weights, _, _ = trained
    longer = bank_of(tmp_path / "bank", np.concatenate([bank.array, gradients(20, seed=5)]))
    np.testing.assert_array_equal(
        extract_losses(longer, weights, stop=150, device="cpu"), extract_losses(bank, weights, device="cpu")
    )


def test_extraction_reports_progress(trained):
    bank, weights, _, _ = trained
    shares = []
    extract_losses(bank, weights, device="cpu", progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 151)])
def test_extraction_refuses_images_that_are_not_there(trained, start, stop):
    bank, weights, _, _ = trained
    with pytest.raises(BadInput, match="bank of 150"):
        extract_losses(bank, weights, start=start, stop=stop, device="cpu")


def test_extraction_refuses_weights_that_do_not_fit(trained, tmp_path):
    _, weights, _, _ = trained
    other = bank_of(tmp_path / "bank", gradients(2, side=32))
    with pytest.raises(BadInput, match="16 pixels, the bank has 32"):
        extract_losses(other, weights, device="cpu")
    (tmp_path / "w.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        read_pretext(tmp_path / "w.pt", 16)


def test_extraction_refuses_to_order_a_pool_by_nan(trained, tmp_path):
    from model.training.loop import write_weights

    bank, weights, _, _ = trained
    content = read_weights(weights)
    content["module"]["head.bias"].fill_(float("nan"))
    write_weights(tmp_path / "w.pt", content)
    with pytest.raises(ModelError, match="diverged"):
        extract_losses(bank, tmp_path / "w.pt", device="cpu")


# -- the command line ---------------------------------------------------------------------------------------------


def test_command_scores_a_folder(tmp_path, capsys):
    for number, pixels in enumerate(gradients(12)):
        folder = tmp_path / "set" / ("even" if number % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (tmp_path / "set" / "odd" / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "losses.npz"
    arguments = ["--data", str(tmp_path / "set"), "--task", "rotation", "--out", str(out), "--epochs", "1"]
    assert main([*arguments, "--weights", str(tmp_path / "w.pt"), "--device", "cpu"]) == 0
    printed, noted = capsys.readouterr()
    report = json.loads(printed.splitlines()[-1])
    assert (report["images"], report["epochs"], report["device"]) == (12, 1, "cpu")
    assert (len(report["curve"]), report["fall_at_the_end"]) == (1, None)
    assert {"seconds_train", "seconds_score", "images_per_second", "mean_loss"} <= set(report)
    assert "broken.png" in noted
    with np.load(out) as arrays:
        losses, paths = arrays["loss"], arrays["path"]
    assert list(paths[:2]) == ["even/00.png", "even/02.png"]
    assert report["mean_loss"] == pytest.approx(float(losses.mean()))
    pixels = np.stack([gradients(12)[int(path[-6:-4])] for path in paths])
    bank = bank_of(tmp_path / "bank", pixels)
    np.testing.assert_array_equal(losses, extract_losses(bank, tmp_path / "w.pt", device="cpu"))


def test_command_names_the_problem_in_one_line(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "l.npz")]) == 1
    printed, noted = capsys.readouterr()
    assert printed == ""
    assert noted.startswith("error: ")
    assert noted.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--side", "3", "3 is not a multiple of 8"),
        ("--side", "0", "'0' is not a whole number from 1 on"),
        ("--side", "1024", "1024 is not a multiple of 8 between 8 and 512"),
        ("--epochs", "0", "'0' is not a whole number from 1 on"),
        ("--seed", "-1", "'-1' is not a whole number from 0 on"),
    ],
)
def test_command_takes_only_numbers_that_it_can_work_with(tmp_path, capsys, option, value, words):
    with pytest.raises(SystemExit):
        main(["--data", "digits", "--out", str(tmp_path / "l.npz"), f"{option}={value}"])
    assert words in capsys.readouterr().err
