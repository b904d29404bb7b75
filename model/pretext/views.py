"""Distorted views of minibatches, for tasks that compare views of an image.

Images and views are float (B, 3, H, W) in [0, 1]. Random numbers are drawn on the CPU for each image, or once for all
images with ``CommonDraws``.
"""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from model.data.augment import Augmentation, augment, draw
from model.device import full_precision

CROP = Augmentation(flip=True, zoom=0.45)  # sides of 45 to 100 %: SimCLR's areas of 20 to 100 %
JITTER, GREY, BLUR = 0.8, 0.2, 0.5  # shares of the views that get each (SimCLR, appendix A)
SIGMA = (0.1, 2.0)  # pixels, at a side of 32
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.4, 0.1  # SimCLR at strength 0.5, its choice for CIFAR-10
VIEWS = (
    4  # of an image at extraction; the loss is the mean over all their pairs, as that of one pair depends on its draw
)

LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = (LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def distort(images: Tensor, generator: torch.Generator, *, solarize: float = 0.0) -> Tensor:
    """Return a random view of each image (SimCLR, appendix A): cropped, mirrored, recoloured, grey, blurred.

    solarize: share of the views whose bright pixels are inverted at the end (BYOL, appendix B).
    """
    with full_precision(images):
        views = augment(images, CROP, generator)
        views = jitter(views, _chosen(images, JITTER, generator), generator)
        views = torch.where(_picture(_chosen(images, GREY, generator)) > 0, luma(views), views)
        low, high = SIGMA
        sigma = low + (high - low) * draw(images, 1, generator)[:, 0]
        views = blur(views, sigma * _chosen(images, BLUR, generator))
        if solarize:
            inverted = (_picture(_chosen(images, solarize, generator)) > 0) & (views >= 0.5)
            views = torch.where(inverted, 1 - views, views)
    return views.contiguous(memory_format=torch.channels_last)


def jitter(images: Tensor, amount: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue at random, each image by its ``amount`` (B,) in [0, 1].

    Saturation and hue turn and stretch the plane across the grey axis of YIQ, so that grey stays grey.
    """
    draws = (draw(images, 4, generator) * 2 - 1) * amount.unsqueeze(1)
    limits = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, 2 * pi * HUE], device=images.device)
    brightness, contrast, saturation, hue = (draws * limits).unbind(1)
    grey, plane, quarter = (part.to(images.device) for part in _colour_plane())
    turned = torch.cos(hue).view(-1, 1, 1) * plane + torch.sin(hue).view(-1, 1, 1) * quarter
    matrix = grey + (1 + saturation).view(-1, 1, 1) * turned  # (B, 3, 3)
    coloured: Tensor = (matrix @ images.flatten(2)).view(images.shape)
    mean = coloured.mean(dim=(1, 2, 3), keepdim=True)
    changed = (coloured - mean) * (1 + _picture(contrast)) + mean * (1 + _picture(brightness))
    return changed.clamp(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with a Gaussian of its ``sigma`` (B,), in pixels at a side of 32; 0 leaves it as it is.

    The kernel has three taps for every 32 pixels, a tenth of the side as in SimCLR.
    """
    tap = torch.exp(-0.5 / sigma.square())
    edge = _picture(tap / (1 + 2 * tap))
    for _ in range(max(round(images.shape[-1] / 32), 1)):
        wide = functional.pad(images, (1, 1, 0, 0), mode="replicate")
        images = images * (1 - 2 * edge) + edge * (wide[..., :-2] + wide[..., 2:])
        tall = functional.pad(images, (0, 0, 1, 1), mode="replicate")
        images = images * (1 - 2 * edge) + edge * (tall[..., :-2, :] + tall[..., 2:, :])
    return images


def luma(images: Tensor) -> Tensor:
    """Return the images without colour, as three equal channels."""
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).expand_as(images)


def colourful(images: Tensor) -> Tensor:
    """Return which images have any colour, (B,) bool."""
    return (images.amax(dim=1) - images.amin(dim=1)).amax(dim=(1, 2)) > 1 / 512  # half a step of 8 bits


def _colour_plane() -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices from a colour to its luma, its chroma, and its chroma turned by 90 degrees, (3, 3) each."""
    to_yiq = torch.tensor(_TO_YIQ)
    grey = to_yiq[:1].expand(3, 3)
    turn = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return grey, torch.eye(3) - grey, torch.linalg.solve(to_yiq, turn @ to_yiq)


def _chosen(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return a random choice of this share of the images, (B,) of 0 and 1."""
    return (draw(images, 1, generator)[:, 0] < share).float()


def _picture(values: Tensor) -> Tensor:
    """Return a value for each image, (B,), in a shape that broadcasts over pixels, (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
