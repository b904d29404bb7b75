"""The network of an encoder as one module: pixels in, features, activations or feature maps out."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

MOST_STAGES = 5  # whose means are features; of networks with more, the last ones
# Where timm's networks have their last block, and what follows it before the mean over the image.
LAST_BLOCKS = (("blocks", ("conv_head", "bn2")), ("layer4", ()), ("stages", ()))


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

    def with_activations(self, pixels: Tensor, block: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the features (B, D) and what a block of this network is given, (B, C, H, W), by one pass.

        pixels: (B, 3, S, S), from 0 to 255.
        """
        given: list[Tensor] = []
        hook = block.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            features = self.embedded(pixels)
        finally:
            hook.remove()
        return features, given[0]

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

    @torch.inference_mode()
    def top(self, side: int) -> "Top | None":
        """Return the last block, which shares its weights with this network; None where it cannot be separated.

        That shows on random images: block and mean have to give what the whole network gives, folded or not.
        """
        for name, behind in LAST_BLOCKS:
            block = _last(getattr(self.network, name, None))
            tail = [getattr(self.network, part, None) for part in behind]
            if block is None or not all(isinstance(part, nn.Module) for part in tail):
                continue
            noise = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0))
            features, activations = self.with_activations(noise, block)
            if activations.ndim == 4:
                top = Top(block, nn.Sequential(*tail), activations.shape[1:])  # type: ignore[arg-type]
                pooled = top(activations)
                expected = features[:, : pooled.shape[1]]
                alike = (_alike(found, expected) for found in (pooled, top.folded()(activations)))
                if pooled.shape[1] == self.widths(side)[1] and all(alike):
                    return top
        return None


class WithActivations(nn.Module):
    """A network and a block of it: images -> features, and what the block is given."""

    def __init__(self, network: FeatureNetwork, block: nn.Module) -> None:
        super().__init__()
        self.network, self.block = network, block

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (B, D) and the activations (B, C, H, W)."""
        return self.network.with_activations(images.permute(0, 3, 1, 2), self.block)


class Top(nn.Module):
    """The last block of a network and what follows it: activations (B, C, H, W) -> the last layer's features (B, D)."""

    def __init__(self, block: nn.Module, tail: nn.Module, shape: Sequence[int]) -> None:
        """shape: of the activations of an image, (C, H, W)."""
        super().__init__()
        self.block, self.tail, self.shape = block, tail, tuple(shape)

    def forward(self, activations: Tensor) -> Tensor:
        """Return the features."""
        features: Tensor = self.tail(self.block(activations)).mean(dim=(2, 3)).float()
        return features

    def train(self, mode: bool = True) -> "Top":
        """Stay in evaluation mode: statistics of a few labeled images would be noise."""
        return super().train(False)

    def folded(self) -> "Top":
        """Return a copy whose batch norms are folded into the convolutions before them: it is quicker to train."""
        folded = deepcopy(self)
        for parent in list(folded.modules()):
            before = ""
            for name, part in list(parent.named_children()):
                if isinstance(part, nn.BatchNorm2d) and isinstance(parent.get_submodule(before), nn.Conv2d) and before:
                    fused = fuse_conv_bn_eval(parent.get_submodule(before), part)  # type: ignore[type-var]
                    setattr(parent, before, fused)
                    setattr(parent, name, getattr(part, "act", nn.Identity()))  # timm's have the activation with them
                before = name
        return folded


def _last(module: nn.Module | None) -> nn.Module | None:
    """Return the last module of a sequence of sequences."""
    while isinstance(module, nn.Sequential):
        module = module[-1]
    return module


def _alike(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
