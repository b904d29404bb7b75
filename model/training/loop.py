"""The one training loop: schedule, precision, checkpoints, progress. Pretext and main task differ in their objective.

A run follows from its plan, objective and seed: every epoch draws from generators seeded by (seed, epoch), so that a
run resumed from the last epoch's checkpoint goes on as if it had not been killed. On a CPU it ends in the same bits; on
CUDA sums of atomic additions may differ in the last ones, because cuDNN's deterministic algorithms are not asked for.
"""

import io
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from errno import EINVAL
from functools import partial
from math import ceil, cos, pi
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.device import training_precision
from model.errors import BadInput, ModelError
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray

REPORT_EVERY_S = 0.25  # seconds between two calls of a progress callback
_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)  # what an unpickler meets

BYTES_ON_DEVICE = 0.25  # share of an accelerator's free memory that images may stay in


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    epochs: passes over the images, each at least ``min_steps`` minibatches. schedule: ``one_cycle`` rises over the
    first ``warmup`` share and falls to zero; ``cosine`` falls from the start; ``constant``; ``two_steps`` falls to a
    tenth at 80 %. keep: the weights after the last epoch, or those of the epoch that ``Rated.quality`` rates best.
    checkpoint_s: seconds of work that a kill may cost at most, on top of the epoch under way. fill: the last minibatch
    is filled up from another pass; else it is as short as it comes, but for a single image, whose batch normalisation
    would be undefined. optimizer: gradient descent with momentum, or Adam with PyTorch's constants. clip: the largest
    length of all gradients together in gradient descent, to which longer ones are shortened; None for any.
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Literal["one_cycle", "cosine", "constant", "two_steps"] = "one_cycle"
    warmup: float = 0.2
    min_steps: int = 1
    keep: Literal["last", "best"] = "last"
    checkpoint_s: float = 0.0
    fill: bool = True
    optimizer: Literal["sgd", "adam"] = "sgd"
    clip: float | None = None

    def steps(self, images: int) -> int:
        """Return the number of minibatches of an epoch."""
        return max(ceil(images / self.batch_size), self.min_steps)

    def taken(self, images: int) -> int:
        """Return the number of images that an epoch takes."""
        if self.fill or self.min_steps > 1 or images % self.batch_size == 1:
            return self.steps(images) * self.batch_size
        return images

    def rate(self, share: float) -> float:
        """Return the learning rate when this share of all steps is done."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "two_steps":
            return self.lr if share < 0.8 else self.lr / 10
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + cos(pi * share))
        if share < self.warmup:
            return self.lr * (0.05 + 0.95 * share / self.warmup)
        return self.lr * 0.5 * (1 + cos(pi * (share - self.warmup) / (1 - self.warmup)))


class Objective(Protocol):
    """What is minimised."""

    def loss(self, positions: Tensor, generator: torch.Generator, done: float) -> Tensor:
        """Return the mean loss of the images at ``positions``, differentiable. done: share of all steps, below 1."""
        ...


@runtime_checkable
class Rated(Protocol):
    """An objective that can choose among epochs, which needs images that it may be measured on."""

    def quality(self, beat: Callable[[], None]) -> float:
        """Return how good the module is after an epoch, higher is better.

        Calls ``beat`` now and then while it measures.
        """
        ...


class Images:
    """Minibatches of a bank as float (B, 3, H, W) in [0, 1], channels last, on the device.

    On an accelerator the chosen images move there once if they fit; else, and on a CPU, they stay in the bank and
    each minibatch is gathered from it.
    """

    def __init__(self, bank: ImageBank, indices: IntArray, device: torch.device) -> None:
        self._bank, self._indices, self._device = bank, indices, device
        self._resident: Tensor | None = None
        if device.type == "cuda":
            needed = len(indices) * bank.side * bank.side * 3
            if needed < BYTES_ON_DEVICE * torch.cuda.mem_get_info(device)[0]:
                self._resident = torch.from_numpy(bank.gather(indices)).to(device)

    def __len__(self) -> int:
        return len(self._indices)

    def take(self, positions: Tensor) -> Tensor:
        """Return the images at these positions of ``indices``."""
        if self._resident is not None:
            pixels = self._resident[positions.to(self._device)]
        else:
            pixels = torch.from_numpy(self._bank.gather(self._indices[positions.numpy()])).to(self._device)
        return pixels.permute(0, 3, 1, 2).float() / 255  # NHWC bytes are channels last already


def train(
    module: nn.Module,
    objective: Objective,
    images: int,
    plan: Plan,
    *,
    checkpoint: Path,
    identity: dict[str, Any],
    seed: int,
    device: torch.device,
    progress: Progress = ignore_progress,
) -> list[float]:
    """Train ``module`` in place on positions 0 .. images - 1, from ``checkpoint`` where that is a part of this run.

    Returns the mean loss of the minibatches of each epoch.

    identity: plain values that, with the plan and the seed, tell this run from others; a checkpoint of another run,
    or a damaged one, is not used. What ``progress`` raises stops the training and leaves the checkpoint. The best epoch
    can only be kept of an objective that is ``Rated``.
    """
    if images < 1:
        raise BadInput("there are no images to train on")
    run = _Run(module, plan, checkpoint, {**identity, "plan": asdict(plan), "seed": seed, "images": images})
    first = run.resume()
    ticker = _Ticker(progress)
    steps = plan.steps(images)
    module.train()
    for epoch in range(first, plan.epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = _order(images, plan.taken(images), generator)
        total = torch.zeros((), device=device)
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
            torch.manual_seed(seed * 1_000_003 + epoch)
            for step, positions in enumerate(torch.split(order, plan.batch_size)):
                share = (epoch * steps + step) / (plan.epochs * steps)
                ticker.report(share)
                with training_precision(device):
                    loss = objective.loss(positions, generator, share)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach().float() * len(positions)
                run.optimizer.step(plan.rate(share))
        run.curve.append(float(total) / len(order))
        run.finish(epoch, objective, partial(ticker.report, (epoch + 1) / plan.epochs))
    run.close()
    ticker.report(1.0, final=True)
    module.eval()
    return run.curve


@torch.no_grad()
def recalibrate(module: nn.Module, images: Images, minibatch: int = 128) -> None:
    """Measure the statistics of batch normalisation anew on ``images``, as plain means over minibatches.

    After few steps the running ones lag behind the weights, and those of a few labeled, augmented images are not those
    of the pool that is scored (the fix of Hoffer et al. 2017, on unlabeled images).
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for positions in torch.split(torch.arange(len(images)), minibatch):
        if len(positions) == minibatch or len(images) < minibatch:
            module(images.take(positions))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _order(images: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return ``wanted`` positions: whole passes in random order, the last one cut, so that minibatches are full."""
    passes = [torch.randperm(images, generator=generator) for _ in range(ceil(wanted / images))]
    return torch.cat(passes)[:wanted]


class _Ticker:
    """Calls a progress callback now and then, not at every step."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._last = progress, -REPORT_EVERY_S

    def report(self, share: float, *, final: bool = False) -> None:
        now = time.monotonic()
        if final or now - self._last >= REPORT_EVERY_S:
            self._last = now
            self._progress(share)


class _Run:
    """The state of a run and its checkpoint file."""

    def __init__(self, module: nn.Module, plan: Plan, path: Path, identity: dict[str, Any]) -> None:
        self._module, self._plan, self._path, self._identity = module, plan, path, identity
        self.optimizer = _Adam(module, plan) if plan.optimizer == "adam" else _Sgd(module, plan)
        self._best: tuple[float, dict[str, Tensor]] | None = None
        self.curve: list[float] = []
        self._saved_at = time.monotonic()

    def resume(self) -> int:
        """Load the checkpoint if it is one of this run, and return the epoch to go on with."""
        state = read_weights(self._path) if self._path.exists() else None
        if state is None or state.get("identity") != self._identity:
            return 0
        self._module.load_state_dict(state["module"])
        for tensor, saved in zip(self.optimizer.state, state["optimizer"], strict=True):
            tensor.copy_(saved)
        if state["best"] is not None:
            self._best = (float(state["best"]["quality"]), state["best"]["module"])
        self.curve = [float(loss) for loss in state.get("curve", [])]  # a checkpoint of an earlier release has none
        return int(state["epoch"]) + 1

    def finish(self, epoch: int, objective: Objective, beat: Callable[[], None]) -> None:
        """Rate the epoch where the best is kept, and write the checkpoint unless one is fresh."""
        if self._plan.keep == "best":
            self._module.eval()
            if not isinstance(objective, Rated):
                raise ModelError("only the last epoch can be kept: nothing rates the others")
            quality = objective.quality(beat)
            self._module.train()
            if self._best is None or quality > self._best[0]:
                self._best = (quality, {key: value.clone() for key, value in self._module.state_dict().items()})
        if time.monotonic() - self._saved_at >= self._plan.checkpoint_s:
            self._save(epoch)
            self._saved_at = time.monotonic()

    def close(self) -> None:
        if self._best is not None:
            self._module.load_state_dict(self._best[1])

    def _save(self, epoch: int) -> None:
        best = None if self._best is None else {"quality": self._best[0], "module": self._best[1]}
        state = {"identity": self._identity, "epoch": epoch, "module": self._module.state_dict(), "best": best}
        write_weights(self._path, {**state, "curve": self.curve, "optimizer": self.optimizer.state})


class _Sgd:
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it. state: velocities.

    Ours, because the first call of PyTorch's costs every process the seconds in which it imports its compiler, and a
    whole fit has few of them.
    """

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.state = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._plan = plan

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move against the gradients, and forget them."""
        momentum, decay = self._plan.momentum, self._plan.weight_decay
        if self._plan.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._plan.clip)
        for parameter, velocity in zip(self._parameters, self.state, strict=True):
            if parameter.grad is None:
                continue
            gradient = parameter.grad.add_(parameter, alpha=decay)
            velocity.mul_(momentum).add_(gradient)
            parameter.sub_(gradient.add_(velocity, alpha=momentum) if self._plan.nesterov else velocity, alpha=rate)
            parameter.grad = None


class _Adam:
    """Adam as torch.optim.Adam computes it, with its default constants; ours for the reason that ``_Sgd`` has.

    state: of each parameter the mean gradient, the mean squared gradient and the number of steps.
    """

    FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.state = [
            tensor
            for parameter in self._parameters
            for tensor in (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.zeros(()))
        ]
        self._decay = plan.weight_decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move against the gradients, and forget them."""
        for parameter, mean, square, steps in zip(
            self._parameters, self.state[::3], self.state[1::3], self.state[2::3], strict=True
        ):
            if parameter.grad is None:
                continue
            gradient = parameter.grad.add_(parameter, alpha=self._decay)
            steps.add_(1)
            mean.lerp_(gradient, 1 - self.FIRST)
            square.mul_(self.SECOND).addcmul_(gradient, gradient, value=1 - self.SECOND)
            count = float(steps)
            width = square.sqrt().div_((1 - self.SECOND**count) ** 0.5).add_(self.EPSILON)
            parameter.addcdiv_(mean, width, value=-rate / (1 - self.FIRST**count))
            parameter.grad = None


def write_weights(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values to a file that is whole or absent and loads without running code."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read_weights(path: Path) -> dict[str, Any] | None:
    """Return what ``write_weights`` wrote, on the CPU; None where the file is damaged or something else."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"there are no weights at {path}") from error
    except OSError as error:
        if error.errno != EINVAL:  # which PyTorch raises for a file that was cut off
            raise
        return None
    except (pickle.UnpicklingError, *_DAMAGE):
        return None
    return content if isinstance(content, dict) else None
