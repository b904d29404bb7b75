"""Score images with a pretext task: ``python -m model.pretext --data D --task rotation --out losses.npz``.

Writes the arrays ``loss`` (N,) and ``path`` (N,) and prints one line of JSON.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.data.atomic_files import write_atomically
from model.data.bank import ImageBank
from model.device import pick_device
from model.errors import ModelError
from model.lab.arguments import natural, positive, side
from model.lab.datasets import load_images
from model.lab.progress_bars import ProgressBars
from model.networks.registry import NETWORK_NAMES
from model.pretext.curve import fall_at_the_end
from model.pretext.registry import PRETEXT_TASKS
from model.pretext.run import extract_losses, train_pretext
from model.training.registry import RECIPE_INFOS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        print(json.dumps(_score(options)))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _score(options: argparse.Namespace) -> dict[str, object]:
    images = load_images(options.data, side=options.side, test_share=0.0)
    for path, reason in images.broken:
        print(f"left out {path}: {reason}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder, ProgressBars() as bars:
        work = Path(folder)
        bank = ImageBank.create(work / "bank", images.train.shape[1])
        bank.append(images.train)
        weights = options.weights or work / "weights.pt"
        trained = train_pretext(
            options.task,
            bank,
            out=weights,
            checkpoint=work / "checkpoint.pt",
            network=options.network,
            recipe=options.recipe,
            epochs=options.epochs,
            seconds=options.seconds,
            seed=options.seed,
            device=options.device,
            progress=bars.step("train"),
        )
        started = time.monotonic()
        losses = extract_losses(bank, weights, device=options.device, seed=options.seed, progress=bars.step("score"))
        seconds_score = time.monotonic() - started
    buffer = io.BytesIO()
    np.savez(buffer, loss=losses, path=np.array(images.paths))
    write_atomically(options.out, buffer.getvalue())
    return {
        "images": len(losses),
        "epochs": trained.epochs,
        "network": trained.network,
        "seconds_train": round(trained.seconds, 3),
        "seconds_score": round(seconds_score, 3),
        "images_per_second": round(len(losses) / (trained.seconds + seconds_score), 1),
        "mean_loss": float(losses.mean()),
        "accuracy": trained.accuracy,
        "curve": [round(loss, 5) for loss in trained.curve],
        "fall_at_the_end": fall_at_the_end(trained.curve),
        "device": str(pick_device(options.device)),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.pretext", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--data", required=True, help="digits, a set under PT4AL_DATA, or a folder of images")
    parser.add_argument("--task", default="rotation", choices=PRETEXT_TASKS)
    parser.add_argument("--out", required=True, type=Path, help="the .npz file to write")
    parser.add_argument("--network", default="auto", choices=NETWORK_NAMES)
    parser.add_argument("--recipe", default="auto", choices=RECIPE_INFOS)
    parser.add_argument("--epochs", type=positive, help="instead of the recipe's own")
    parser.add_argument("--seconds", type=positive, help="instead of epochs: as many as fit into about so many seconds")
    parser.add_argument("--side", type=side, help="pixels, a multiple of 8; default: what suits the images")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--weights", type=Path, help="keep the trained weights in this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
