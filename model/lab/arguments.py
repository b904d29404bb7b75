"""The command-line arguments that ``python -m model.simulate`` and ``python -m model.h1`` share."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from model.encoders.registry import NONE as NO_ENCODER
from model.encoders.registry import encoder_info
from model.errors import BadInput, UnknownName
from model.lab.experiment import ExperimentConfig
from model.networks.registry import INITS, NETWORK_NAMES
from model.training.registry import RECIPE_INFOS

MOST_PIXELS = 512  # of a side, as in the configuration of a project


def positive(text: str) -> int:
    """Read a whole number from 1 on; argparse reports anything else."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Read a whole number from 0 on; argparse reports anything else."""
    return _whole(text, 0)


def _whole(text: str, lowest: int) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {lowest} on")
    return int(text)


def side(text: str) -> int:
    """Read a side that every network takes: a multiple of 8, as they halve an image three times."""
    pixels = positive(text)
    if pixels % 8 or pixels > MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"{pixels} is not a multiple of 8 between 8 and {MOST_PIXELS} (pixels)")
    return pixels


def share(text: str) -> float:
    """Read a number from 0 to 1; argparse reports anything else."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def study_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every study: images, seeds, networks, and the file of the results."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Start a stopped run again with the same arguments and it continues where it was.",
    )
    add = parser.add_argument
    add("--data", required=True, help="digits, a set under PT4AL_DATA, or a folder with a subfolder per class")
    add("--test", type=positive, help="test images, the same for all seeds (default: all)")
    add("--seeds", type=positive, required=True, help="number of seeds")
    add("--first-seed", type=natural, default=0)
    add("--json", type=Path, required=True, help="file of the results, written as they come")
    add("--side", type=side, help="pixels of a side, a multiple of 8; default: what suits the images, 96 at most")
    add("--network", default="auto")
    add("--recipe", default="auto")
    add("--epochs", type=positive, help="epochs of the main model (default: the recipe's)")
    add("--pretext-epochs", type=positive, help="epochs of the pretext networks (default: the recipe's)")
    add("--device", default="auto")
    add("--threads", type=positive, help="CPU threads (default: all)")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, range]:
    """Return the options and the seeds; set the number of threads of PyTorch as asked for."""
    given = parser.parse_args(arguments)
    if given.threads is not None:
        import torch

        torch.set_num_threads(given.threads)
    return given, range(given.first_seed, given.first_seed + given.seeds)


def check(config: ExperimentConfig, inits: Collection[str], device: str) -> None:
    """Raise UnknownName or BadInput now for arguments that would fail only after the first networks are trained.

    inits: all that will be used. ``pretrained`` downloads its weights here.
    """
    from model.device import pick_device
    from model.networks.backbones import IMAGENET_SIDE, build_backbone, load_imagenet

    pick_device(device)
    if config.encoder != NO_ENCODER:
        encoder_info(config.encoder)
    for kind, name, choices in (
        ("network", config.network, NETWORK_NAMES),
        ("recipe", config.recipe, RECIPE_INFOS),
        *(("init", init, INITS) for init in inits),
    ):
        if name not in choices:
            raise UnknownName(kind, name, choices)
    for init in inits:
        if not INITS[init].fits(config.network):
            weights_of = ", ".join(INITS[init].networks)
            raise BadInput(f"init: '{init}' weights are those of {weights_of}, not of network '{config.network}'")
    if "pretrained" in inits:
        load_imagenet(build_backbone("resnet18", IMAGENET_SIDE, seed=0))
