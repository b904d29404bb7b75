"""Augmentations of whole minibatches on the device.

Images are float (B, 3, H, W) in [0, 1]. Random numbers are drawn on the CPU, so that every device sees the same.
"""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.device import full_precision


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; each image has its own draw.

    flip: mirror an image with probability 1/2. shift: move by up to this share of the side. zoom: crop to between this
    share of the side and all of it, and enlarge again (1: never). area: crop to between this share of the area and all
    of it, three quarters to four thirds as wide as high, and enlarge again (1: never), as torchvision's
    RandomResizedCrop does. colour: change brightness and contrast by up to this
    share. erase: grey out a square of this share of the side. edge: what fills the edge of a moved image: reflection or
    black (zeros).
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 1.0
    area: float = 1.0
    colour: float = 0.0
    erase: float = 0.0
    edge: Literal["reflection", "zeros"] = "reflection"


NONE = Augmentation()
TRIES = 10  # parts that are drawn for a random resized crop


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return randomly changed copies of the images (B, 3, H, W), each changed independently."""
    if augmentation.area < 1:
        images = _resized_crop(images, augmentation, generator)
    elif augmentation.flip or augmentation.shift or augmentation.zoom < 1:
        images = _move(images, augmentation, generator)
    if augmentation.colour:
        images = _recolour(images, augmentation.colour, generator)
    if augmentation.erase:
        images = _erase(images, augmentation.erase, generator)
    return images


class CommonDraws(torch.Generator):
    """A generator whose draws are the same for every image of a minibatch (see ``draw``).

    Losses with such draws differ only because the images differ.
    """


def draw(images: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    """Return (B, columns) uniform numbers in [0, 1) on the device of the images."""
    rows = 1 if isinstance(generator, CommonDraws) else len(images)
    return torch.rand(rows, columns, generator=generator).expand(len(images), columns).to(images.device)


def _uniform(images: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    return draw(images, columns, generator) * 2 - 1


def _move(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Mirror, shift and zoom in one resampling."""
    side = images.shape[-1]
    draw = _uniform(images, 5, generator)
    mirror = torch.where(draw[:, 0] < 0, -1.0, 1.0) if augmentation.flip else torch.ones_like(draw[:, 0])
    if augmentation.zoom < 1:
        scale = 1 - (1 - augmentation.zoom) * (draw[:, 1] + 1) / 2
        stretch = 1 + 0.15 * draw[:, 4] * (scale < 1)
        centre = draw[:, 2:4] * (1 - scale + augmentation.shift).unsqueeze(1)
    else:
        scale, stretch = torch.ones_like(mirror), torch.ones_like(mirror)
        furthest = round(augmentation.shift * side)
        steps = torch.floor((draw[:, 2:4] + 1) / 2 * (2 * furthest + 1)) - furthest  # all equally likely
        centre = steps * 2 / side  # whole pixels, so that nothing is blurred
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = mirror * scale * stretch, scale
    theta[:, :, 2] = centre
    with full_precision(images):  # bf16 has coordinates to half a pixel only
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        moved = functional.grid_sample(images.float(), grid, padding_mode=augmentation.edge, align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


def _resized_crop(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Mirror, and enlarge a random part of each image to its side, in one resampling.

    Of TRIES parts, the first counts that is neither wider nor higher than the image, as torchvision does it; where
    there is none, the whole image.
    """
    draws = draw(images, 2 * TRIES + 3, generator)
    areas = augmentation.area + (1 - augmentation.area) * draws[:, :TRIES]
    ratios = torch.exp((2 * draws[:, TRIES : 2 * TRIES] - 1) * log(4 / 3))
    widths, heights = (areas * ratios).sqrt(), (areas / ratios).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    fallback = torch.ones_like(areas[:, 0])
    width, height = (
        torch.where(fits.any(dim=1), values.gather(1, first).squeeze(1), fallback) for values in (widths, heights)
    )
    mirrored, across, down = draws[:, 2 * TRIES :].unbind(1)
    mirror = torch.where(mirrored < 0.5, -1.0, 1.0) if augmentation.flip else fallback
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = mirror * width, height
    theta[:, 0, 2], theta[:, 1, 2] = (2 * across - 1) * (1 - width), (2 * down - 1) * (1 - height)
    with full_precision(images):
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        part = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return part.contiguous(memory_format=torch.channels_last)


def _recolour(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    brightness, contrast = (1 + amount * _uniform(images, 2, generator)).view(-1, 2, 1, 1, 1).unbind(1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * contrast + mean * brightness).clamp(0, 1)


def _erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Grey out a square of each image, with its centre anywhere in the image (DeVries and Taylor 2017, Cutout)."""
    side = images.shape[-1]
    centre = (_uniform(images, 2, generator) + 1) / 2 * side
    distance = (torch.arange(side, device=images.device) + 0.5 - centre.unsqueeze(-1)).abs()  # (B, 2, side)
    inside = distance < share * side / 2
    hole = inside[:, 0, None, :, None] & inside[:, 1, None, None, :]
    return torch.where(hole, 0.5, images)
