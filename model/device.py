"""The device that a network runs on, and its precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from model.errors import UnknownName

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name. ``auto`` is the first available one of CUDA, MPS, CPU; ``cuda:1`` works too.

    On CUDA, convolutions are computed in fp32 from then on: PyTorch's own setting shortens their mantissa (TF32).
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if available["cuda"]:
        torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device(next(device for device, usable in available.items() if usable))
    if not available[kind]:
        raise UnknownName("device", name, [device for device, usable in available.items() if usable])
    return torch.device(name)


def training_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast for training steps: bf16 if the hardware multiplies it faster than fp32, else none.

    On a CPU this needs AVX512-BF16 or AMX (1.5 to 2 times the images per second, measured on Zen 4); without them bf16
    is emulated and slower. Scoring always runs in fp32, so that scores of two devices differ by rounding only.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    if device.type == "cpu" and _cpu_multiplies_bf16():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast: bf16 is too coarse for a loss and for coordinates of pixels."""
    return torch.autocast(tensor.device.type, enabled=False)


def _cpu_multiplies_bf16() -> bool:
    # These functions are private in PyTorch; if they are missing, training runs in fp32, which works everywhere.
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(probe()) for probe in probes if probe is not None)
