"""The CIE Lab colour space, and its ab plane cut into the colours that a screen can show."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

GRID = 10  # units of a and b between two bins (Zhang et al. 2016, section 2.1)

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27  # where the cube root of CIE becomes linear, and the slope there


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB in [0, 1] to Lab, (B, 3, H, W): L in 0 to 100, a and b within about 110 of 0; white is D65."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_TO_XYZ, dtype=images.dtype, device=images.device)
    matrix = matrix / matrix.sum(dim=1, keepdim=True)  # relative to white
    x, y, z = torch.einsum("ij,bjhw->ibhw", matrix, linear)
    x, y, z = (torch.where(t > _EPSILON, t.clamp(min=_EPSILON) ** (1 / 3), (_KAPPA * t + 16) / 116) for t in (x, y, z))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@lru_cache(maxsize=1)
def ab_bins() -> npt.NDArray[np.float32]:
    """Return the centres (Q, 2) of the squares of the ab plane that some sRGB colour falls into.

    There are 260, found with every fifth of the 256 values of a channel; all 16 million colours would add one. The
    paper counts 313 and does not say where it draws the border; this matters little, as a colour there has neighbours.
    """
    level = torch.arange(0, 256, 5) / 255
    colours = torch.cartesian_prod(level, level, level).T.reshape(1, 3, -1, 1)
    centres = torch.round(rgb_to_lab(colours)[0, 1:, :, 0].T / GRID) * GRID
    return np.unique(centres.numpy(), axis=0).astype(np.float32)
