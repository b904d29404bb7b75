"""How many epochs a pretext training gets where a person says how long it may take."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.data.atomic_files import write_atomically
from model.training.loop import Objective, Plan

TIMED = 4  # minibatches
MOST_EPOCHS = 10_000


def epochs_within(
    seconds: int, objective: Objective, images: int, plan: Plan, identity: Mapping[str, Any], checkpoint: Path
) -> int:
    """Return how many epochs of ``images`` fit into about so many seconds, one at least.

    objective: of a copy of the module: some of its minibatches are timed. identity: of the training. The number is
    noted beside ``checkpoint``: a training that is killed goes on with it, however quick the machine is then.
    """
    note, wanted = _note(checkpoint), {**identity, "images": images, "seconds": seconds}
    try:
        known = json.loads(note.read_text())
        if known["training"] == wanted:
            return int(known["epochs"])
    except (OSError, ValueError, LookupError, TypeError):
        pass  # there is none, or it is damaged
    epochs = min(max(int(seconds / (_seconds(objective, images, plan) * plan.steps(images))), 1), MOST_EPOCHS)
    write_atomically(note, json.dumps({"training": wanted, "epochs": epochs}).encode())
    return epochs


def forget_budget(checkpoint: Path) -> None:
    """Delete what ``epochs_within`` has noted."""
    _note(checkpoint).unlink(missing_ok=True)


def _note(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".budget")


def _seconds(objective: Objective, images: int, plan: Plan) -> float:
    """Return the seconds of a minibatch."""
    positions = torch.arange(plan.batch_size) % images
    for step in range(1 + TIMED):
        if step == 1:  # the first minibatch prepares much that later ones use
            started = time.monotonic()
        loss = objective.loss(positions, torch.Generator().manual_seed(step), 0.0)
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())  # wait for what an accelerator was given
    return max(time.monotonic() - started, 1e-6) / TIMED
