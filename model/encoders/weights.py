"""The weights of encoders: where they are, and whether they are the right ones."""

import hashlib
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from model.encoders.registry import EncoderInfo
from model.errors import WeightsMissing

if TYPE_CHECKING:
    from torch import nn

HUB = "https://huggingface.co"  # where HF_ENDPOINT, which the hub's client reads, names no other
HUB_SECONDS = 10.0  # until the hub's answer, or it counts as out of reach
FREE = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0")  # licences that allow any use


def weights_path(info: EncoderInfo, folder: Path) -> Path:
    """Return where the weights of an encoder are or belong.

    folder: of the encoders; it can be filled by hand.
    """
    if info.package is None:
        return folder / f"{info.network}.safetensors"
    spec = importlib.util.find_spec(info.package)
    if spec is None or spec.origin is None:
        raise WeightsMissing(
            f"the weights of '{info.name}' are in the package '{info.package.replace('_', '-')}', which is not "
            'installed: run \'make setup\', or set "encoder": "none"'
        )
    found = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if not found:
        raise WeightsMissing(f"the package of '{info.name}' has lost its weights: run 'make setup' again")
    return found[0]


def check_weights(info: EncoderInfo, folder: Path) -> Path:
    """Return where the weights of an encoder are.

    Raises:
        WeightsMissing: they are not there, damaged, or of another network, or timm does not know the network.
    """
    if info.package is None:
        _check_name(info)
    path = weights_path(info, folder)
    if not path.exists():
        raise WeightsMissing(
            f"the weights of '{info.name}' are not at {path} yet: they are fetched when they are first used, or can be "
            "put there by hand"
        )
    if info.sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != info.sha256:
        raise WeightsMissing(f"the weights of '{info.name}' in {path} are damaged: run 'make setup' again")
    if info.package is None:
        _from_file(info, path)
    return path


def about_weights(info: EncoderInfo, path: Path) -> str:
    """Return licence and size of weights in a few words; of timm's, the licence is what timm says."""
    license = info.license
    if info.package is None:
        import timm

        license = getattr(timm.get_pretrained_cfg(info.network), "license", None) or "unknown"
    free = license.lower() in {name.lower() for name in FREE}
    caution = "" if free else ", which may forbid some uses: read the model card of the weights"
    return f"licence: {license}{caution}; {path.stat().st_size / 1e6:.0f} MB"


def load_network(info: EncoderInfo, folder: Path) -> "nn.Module":
    """Return the network of an encoder with its weights, in evaluation mode.

    Raises:
        WeightsMissing: they are not there and cannot be fetched, damaged, or of another network; says what to do.
    """
    if info.package is not None:
        return _from_package(info, folder)
    _check_name(info)
    path = weights_path(info, folder)
    if not path.exists():
        _fetch(info, path)
    return _from_file(info, path)


def _check_name(info: EncoderInfo) -> None:
    """Raise WeightsMissing where timm knows no such network, or no such weights of it."""
    import timm

    if not timm.is_model(info.network.split(".")[0]):
        raise WeightsMissing(f"timm has no network '{info.network}': see timm.list_models()")
    try:
        timm.get_pretrained_cfg(info.network)
    except RuntimeError as error:  # of the name behind the point
        raise WeightsMissing(f"timm has no such weights: {error} See timm.list_pretrained()") from error


def bare_network(info: EncoderInfo) -> "nn.Module":
    """Return the network of an encoder with random weights, in evaluation mode."""
    import timm

    network: nn.Module = timm.create_model(info.network, pretrained=False, **_resizable(info))
    return network.eval()


def _from_package(info: EncoderInfo, folder: Path) -> "nn.Module":
    import timm
    import torch

    path = check_weights(info, folder)
    network = timm.create_model(info.network, pretrained=False)
    # The package has the authors' own names. Its tensors come in the order of timm's, each with the same last name.
    given = [(name, value) for name, value in torch.load(path, map_location="cpu", weights_only=True).items()
             if not name.endswith("num_batches_tracked")]  # fmt: skip
    state = network.state_dict()
    own = [name for name in state if not name.endswith("num_batches_tracked")]
    fitting = len(own) == len(given) and all(
        a.split(".")[-1] == b.split(".")[-1] and state[a].shape == value.shape
        for a, (b, value) in zip(own, given, strict=True)
    )
    if not fitting:
        raise WeightsMissing(f"the weights in {path} are not those of {info.network} in timm {timm.__version__}")
    network.load_state_dict({**state, **{name: value for name, (_, value) in zip(own, given, strict=True)}})
    return network.eval()


def _fetch(info: EncoderInfo, path: Path) -> None:
    """Get the weights from timm's hub and keep them in the folder."""
    import timm
    from safetensors.torch import save

    from model.data.atomic_files import write_atomically

    try:
        _reach_hub()  # at once: the hub's client tries again and again for a minute
        network = timm.create_model(info.network, pretrained=True, cache_dir=str(path.parent / "hub"))
    except Exception as error:  # the hub's client raises many types where there is no network
        config = timm.get_pretrained_cfg(info.network)
        source = getattr(config, "hf_hub_id", None) or "timm's hub"
        raise WeightsMissing(
            f"the weights of '{info.name}' are not here and could not be fetched ({type(error).__name__}): put "
            f"'model.safetensors' of {source} at {path}, or set another \"encoder\""
        ) from error
    write_atomically(path, save({name: value.contiguous() for name, value in network.state_dict().items()}))


def _reach_hub() -> None:
    """Raise OSError where no answer comes from the hub."""
    hub = os.environ.get("HF_ENDPOINT") or HUB
    with suppress(HTTPError), urlopen(Request(hub, method="HEAD"), timeout=HUB_SECONDS):
        pass


def _from_file(info: EncoderInfo, path: Path) -> "nn.Module":
    from safetensors.torch import load

    network = bare_network(info)
    try:
        network.load_state_dict(load(path.read_bytes()))
    except Exception as error:  # damaged, or of another network
        reason = " ".join(str(error).split())[:200]
        raise WeightsMissing(f"{path} does not hold the weights of {info.network}: {reason}") from error
    return network


def _resizable(info: EncoderInfo) -> dict[str, Any]:
    """Return what lets a network of patches take images of another side than it was trained on."""
    return {"dynamic_img_size": True} if info.network.startswith(("vit_", "deit", "eva", "beit")) else {}
