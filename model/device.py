"""Where a network runs and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from model.errors import UnknownName

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is the first there is of CUDA, MPS and CPU. ``cuda:1`` works too."""
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, here in there.items() if here))
    if not there[kind]:
        raise UnknownName("device", name, [device for device, here in there.items() if here])
    return torch.device(name)


def training_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast for training steps: bf16 where the hardware multiplies it faster than fp32, else nothing.

    On a CPU that is AVX512-BF16 or AMX (1.5 to 2 times the images per second, measured on Zen 4); elsewhere bf16 is
    emulated and slower. Scoring always runs in fp32, so that a score does not depend on who computes it.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    if device.type == "cpu" and _cpu_multiplies_bf16():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast: products of bf16 are too coarse for a loss, and for coordinates of pixels."""
    return torch.autocast(tensor.device.type, enabled=False)


def _cpu_multiplies_bf16() -> bool:
    # Private in PyTorch for now; without them we stay in fp32, which is right everywhere.
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(probe()) for probe in probes if probe is not None)
