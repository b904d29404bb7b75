"""The command line that the studies share: ``python -m model.simulate`` and ``python -m model.h1``."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def study_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with what every study takes: images, seeds, networks, and the file of its results."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="A run that was stopped goes on where it was when it is started again with the same arguments.",
    )
    add = parser.add_argument
    add("--data", required=True, help="digits, a set under PT4AL_DATA, or a folder with a subfolder per class")
    add("--test", type=int, help="test images, the same for all seeds (default: all)")
    add("--seeds", type=int, required=True, help="number of seeds")
    add("--first-seed", type=int, default=0)
    add("--json", type=Path, required=True, help="file of the results, written as they come")
    add("--network", default="auto")
    add("--recipe", default="auto")
    add("--epochs", type=int, help="epochs of the main model (default: the recipe's)")
    add("--pretext-epochs", type=int, help="epochs of the pretext networks (default: the recipe's)")
    add("--device", default="auto")
    add("--threads", type=int, help="CPU threads (default: all)")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, range]:
    """Return the options and the seeds, and keep PyTorch to the threads that were asked for."""
    given = parser.parse_args(arguments)
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    return given, range(given.first_seed, given.first_seed + given.seeds)
