"""The network of an encoder as one module: pixels in, features or feature maps out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MOST_STAGES = 5  # whose means are features; of networks with more, the last ones


class FeatureNetwork(nn.Module):
    """A timm network with its preprocessing: (B, S, S, 3) uint8 RGB -> features (B, D) float32.

    The first ``last`` columns are the pooled last layer, those behind it the means over the image of the maps of each
    stage, coarse last.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """mean, std: of pixels from 0 to 255, three each."""
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D)."""
        return self.embedded(images.permute(0, 3, 1, 2))

    def embedded(self, pixels: Tensor) -> Tensor:
        """Return the features (B, D) of pixels from 0 to 255, (B, 3, S, S)."""
        last, stages = self.network.forward_intermediates(self.normalized(pixels))  # type: ignore[operator]
        pooled = self.network.forward_head(last, pre_logits=True)  # type: ignore[operator]
        return torch.cat([pooled, *(stage.mean(dim=(2, 3)) for stage in stages[-MOST_STAGES:])], dim=1).float()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of the stages, (B, C, H, W) each, coarse last."""
        stages: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            self.normalized(images.permute(0, 3, 1, 2)), intermediates_only=True
        )
        return stages

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return pixels from 0 to 255 as the network takes them, (B, 3, S, S)."""
        return (pixels.to(self.mean.dtype) - self.mean) / self.std  # type: ignore[arg-type, operator]

    @torch.inference_mode()
    def widths(self, side: int) -> tuple[int, int]:
        """Return the number of all features, and of those of the last layer."""
        image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        last, _ = self.network.forward_intermediates(self.normalized(image.permute(0, 3, 1, 2)))  # type: ignore[operator]
        return self.forward(image).shape[1], self.network.forward_head(last, pre_logits=True).shape[1]  # type: ignore[operator]
