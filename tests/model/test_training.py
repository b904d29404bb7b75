import copy
import os
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from model.data.bank import ImageBank
from model.errors import BadInput, ModelError
from model.training.loop import Images, Plan, _Adam, _Sgd, read_weights, recalibrate, train, write_weights

CPU = torch.device("cpu")


class Fit:
    """Fit a line with dropout noise: cheap, and random in every way that the loop has to control."""

    def __init__(self, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        self.seen = []

    def loss(self, positions, generator, done):
        self.seen.append(positions)
        x = self.x[positions] + 0.1 * torch.randn(len(positions), 3, generator=generator)
        return (self.module(x).float() - self.x[positions].sum(dim=1, keepdim=True)).square().mean()

    def quality(self, beat):
        beat()
        with torch.no_grad():
            return -float((self.module(self.x) - self.x.sum(dim=1, keepdim=True)).square().mean())


def run(fit, path, plan, seed=0, **more):
    arguments = {"checkpoint": path, "identity": {"what": "line"}, "seed": seed, "device": CPU, **more}
    train(fit.module, fit, len(fit.x), plan, **arguments)
    return fit.module.state_dict()


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


class Stop(Exception):  # noqa: N818
    pass


def stop_at(share):
    def progress(done):
        if done >= share:
            raise Stop

    return progress


@pytest.fixture(autouse=True)
def report_at_once(monkeypatch):
    monkeypatch.setattr("model.training.loop.REPORT_EVERY_S", 0.0)


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_steps_as_pytorch_does(nesterov):
    ours = torch.nn.Linear(4, 3)
    theirs = copy.deepcopy(ours)
    sgd = _Sgd(ours, Plan(1, 1, lr=0.1, nesterov=nesterov, weight_decay=0.01))
    oracle = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    for _ in range(5):
        x = torch.randn(8, 4)
        ours(x).square().mean().backward()
        sgd.step(0.1)
        oracle.zero_grad()
        theirs(x).square().mean().backward()
        oracle.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam_steps_as_pytorch_does(decay):
    ours = torch.nn.Linear(4, 3)
    theirs = copy.deepcopy(ours)
    adam = _Adam(ours, Plan(1, 1, lr=0.1, weight_decay=decay, optimizer="adam"))
    oracle = torch.optim.Adam(theirs.parameters(), 0.1, weight_decay=decay)
    for _ in range(5):
        x = torch.randn(8, 4)
        ours(x).square().mean().backward()
        adam.step(0.1)
        oracle.zero_grad()
        theirs(x).square().mean().backward()
        oracle.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_plan_one_cycle_rises_to_its_peak_and_falls_to_nothing():
    plan = Plan(1, 1, lr=2.0, warmup=0.25)
    rates = [plan.rate(share / 100) for share in range(101)]
    assert max(rates) == rates[25] == pytest.approx(2.0)
    assert all(a < b for a, b in pairwise(rates[:26]))
    assert all(a > b for a, b in pairwise(rates[25:]))
    assert rates[100] == pytest.approx(0.0)


def test_plan_two_steps_is_the_papers_schedule():
    plan = Plan(200, 1, lr=0.1, schedule="two_steps")
    assert plan.rate(159.9 / 200) == 0.1
    assert plan.rate(160 / 200) == pytest.approx(0.01)


def test_train_returns_the_mean_loss_of_each_epoch_also_after_a_kill(tmp_path):
    plan = Plan(6, 16, lr=0.05)
    arguments = {"identity": {}, "seed": 0, "device": CPU}
    whole, killed = Fit(), Fit()
    curve = train(whole.module, whole, 50, plan, checkpoint=tmp_path / "whole", **arguments)
    with pytest.raises(Stop):
        train(killed.module, killed, 50, plan, checkpoint=tmp_path / "part", progress=stop_at(0.5), **arguments)
    again = Fit()
    assert train(again.module, again, 50, plan, checkpoint=tmp_path / "part", **arguments) == curve
    assert len(curve) == 6
    assert curve[-1] < curve[0] / 2


def test_train_shows_every_image_in_each_epoch_in_full_minibatches(tmp_path):
    fit = Fit()
    run(fit, tmp_path / "c.pt", Plan(2, 16, lr=0.1))
    assert [len(positions) for positions in fit.seen] == [16] * 8
    for epoch in (fit.seen[:4], fit.seen[4:]):
        assert set(torch.cat(epoch).tolist()) == set(range(50))
    assert not torch.equal(fit.seen[0], fit.seen[4])


def test_train_repeats_images_where_there_are_few(tmp_path):
    fit = Fit()
    train(
        fit.module, fit, 1, Plan(1, 4, lr=0.1, min_steps=3),
        checkpoint=tmp_path / "c.pt", identity={}, seed=0, device=CPU,
    )  # fmt: skip
    assert [positions.tolist() for positions in fit.seen] == [[0, 0, 0, 0]] * 3


def test_train_refuses_to_train_on_nothing(tmp_path):
    fit = Fit()
    with pytest.raises(BadInput, match="no images"):
        train(fit.module, fit, 0, Plan(1, 4, lr=0.1), checkpoint=tmp_path / "c", identity={}, seed=0, device=CPU)


def test_train_repeats_with_its_seed_and_leaves_the_global_generator(tmp_path):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    plan = Plan(3, 16, lr=0.05)
    first, second = (run(Fit(), tmp_path / f"{number}.pt", plan) for number in range(2))
    torch.manual_seed(4)
    third = run(Fit(), tmp_path / "3.pt", plan)
    assert same(first, second)
    assert same(first, third)
    assert not same(first, run(Fit(), tmp_path / "4.pt", plan, seed=1))
    torch.manual_seed(3)
    run(Fit(), tmp_path / "5.pt", plan)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("keep", "optimizer"), [("last", "sgd"), ("best", "sgd"), ("last", "adam")])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_train_stopped_and_resumed_ends_in_the_same_bits(tmp_path, keep, optimizer, share):
    plan = Plan(6, 16, lr=0.05, keep=keep, optimizer=optimizer)
    undisturbed = run(Fit(), tmp_path / "a.pt", plan)
    with pytest.raises(Stop):
        run(Fit(), tmp_path / "b.pt", plan, progress=stop_at(share))
    resumed = Fit(seed=9)  # other first weights: what counts comes from the checkpoint
    assert same(undisturbed, run(resumed, tmp_path / "b.pt", plan))
    assert len(resumed.seen) < 6 * 4


def test_train_killed_and_resumed_ends_in_the_same_bits(tmp_path):
    """Kill the process for real, while it trains."""
    script = (
        "import sys; sys.path.insert(0, 'tests/model'); from pathlib import Path; import test_training as t\n"
        "import model.training.loop; model.training.loop.REPORT_EVERY_S = 0.0\n"
        "t.run(t.Fit(), Path(sys.argv[1]), t.Plan(40, 16, lr=0.05),"
        " progress=lambda share: print(share, flush=True) or __import__('time').sleep(0.05))\n"
    )
    path = tmp_path / "c.pt"
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        for _ in process.stdout:
            if path.exists():
                os.kill(process.pid, signal.SIGKILL)
                break
    assert read_weights(path)["epoch"] < 39
    resumed = run(Fit(), path, Plan(40, 16, lr=0.05))
    assert same(resumed, run(Fit(), tmp_path / "other.pt", Plan(40, 16, lr=0.05)))


@pytest.mark.parametrize("change", ["seed", "plan", "identity", "damage"])
def test_train_does_not_go_on_from_another_runs_checkpoint(tmp_path, change):
    plan, path = Plan(4, 16, lr=0.05), tmp_path / "c.pt"
    with pytest.raises(Stop):
        run(Fit(), path, plan, progress=stop_at(0.8))
    if change == "damage":
        path.write_bytes(path.read_bytes()[:100])
    more = {"identity": {"what": "circle"}} if change == "identity" else {}
    fit = Fit()
    run(fit, path, Plan(4, 16, lr=0.06) if change == "plan" else plan, seed=int(change == "seed"), **more)
    assert len(fit.seen) == 4 * 4


def test_train_keeps_the_best_epoch(tmp_path):
    fit = Fit()
    qualities = iter([0.1, 0.9, 0.3])
    states = []

    def quality(beat):
        states.append({key: value.clone() for key, value in fit.module.state_dict().items()})
        return next(qualities)

    fit.quality = quality
    assert same(run(fit, tmp_path / "c.pt", Plan(3, 16, lr=0.05, keep="best")), states[1])


def test_train_refuses_to_keep_the_best_epoch_of_what_rates_none(tmp_path):
    class Unrated:
        loss = Fit.loss

    fit = Fit()
    unrated = Unrated()
    unrated.__dict__.update(fit.__dict__)
    with pytest.raises(ModelError, match="only the last epoch"):
        run(unrated, tmp_path / "c.pt", Plan(3, 16, lr=0.05, keep="best"))


def test_train_reports_progress_that_rises_to_one(tmp_path):
    shares = []
    run(Fit(), tmp_path / "c.pt", Plan(2, 16, lr=0.05), progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1], len(shares)) == (0.0, 1.0, 2 * 4 + 1)


def test_train_leaves_the_module_in_eval_mode(tmp_path):
    fit = Fit()
    run(fit, tmp_path / "c.pt", Plan(1, 16, lr=0.05))
    assert not fit.module.training


def test_weights_read_back_and_nothing_else_does(tmp_path):
    path = tmp_path / "folder" / "w.pt"
    write_weights(path, {"a": torch.ones(2), "b": {"c": 1, "d": "text"}})
    content = read_weights(path)
    assert torch.equal(content["a"], torch.ones(2))
    assert content["b"] == {"c": 1, "d": "text"}
    assert [file.name for file in path.parent.iterdir()] == ["w.pt"]
    path.write_bytes(b"something else")
    assert read_weights(path) is None
    torch.save({"function": print}, path)  # loading must not run code
    assert read_weights(path) is None
    with pytest.raises(ModelError, match="no weights"):
        read_weights(tmp_path / "nowhere.pt")


def test_images_are_floats_of_the_banks_bytes_channels_last(tmp_path):
    bank = ImageBank.create(tmp_path, 8)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    bank.append(pixels)
    images = Images(bank, np.array([4, 2, 0]), CPU)
    taken = images.take(torch.tensor([1, 0]))
    assert len(images) == 3
    assert taken.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(taken.permute(0, 2, 3, 1).numpy(), pixels[[2, 4]] / 255, rtol=1e-6)


def test_recalibrate_measures_the_images_and_nothing_else(tmp_path):
    bank = ImageBank.create(tmp_path, 8)
    bank.append(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    images = Images(bank, np.arange(40), CPU)
    norm = torch.nn.BatchNorm2d(3)
    norm.running_mean.fill_(99.0)
    module = torch.nn.Sequential(norm).eval()
    recalibrate(module, images, minibatch=20)
    pixels = bank.array / 255
    np.testing.assert_allclose(norm.running_mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-5)
    halves = [pixels[:20].reshape(-1, 3).var(axis=0, ddof=1), pixels[20:].reshape(-1, 3).var(axis=0, ddof=1)]
    np.testing.assert_allclose(norm.running_var, np.mean(halves, axis=0), rtol=1e-4)
    assert norm.momentum == 0.1
    assert not norm.training


@pytest.mark.parametrize(("images", "taken"), [(1000, 1000), (1024, 1024), (60, 60), (129, 256)])
def test_the_papers_last_minibatch_is_as_short_as_it_comes(images, taken):
    """A single image, whose batch normalisation would be undefined, is filled up to a whole minibatch."""
    plan = Plan(1, 128, lr=0.1, fill=False)
    assert plan.taken(images) == taken
    assert Plan(1, 128, lr=0.1).taken(images) == plan.steps(images) * 128
