"""A light decoder from the feature maps of an encoder to classes of pixels."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128  # channels
DROPOUT = 0.1  # of channels, before the last layer


class Decoder(nn.Module):
    """Maps of several strides, brought to one width, added at the finest stride and mixed once.

    After LR-ASPP (Howard et al. 2019) and the panoptic FPN (Kirillov et al. 2019): there is one sum in place of a
    pyramid, and the mean of the coarsest map stands for the context of the image. Most of the work is at 1/8 of the
    image's resolution, so that it trains on a processor; one at 1/4 was no better on street scenes.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        """widths: channels of the maps, finest first. outputs: number of classes."""
        super().__init__()
        self.outputs = outputs
        self.level = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH)) for width in widths
        )
        self.context = nn.Conv2d(widths[-1], WIDTH, 1)
        self.mixed = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False),
            nn.Conv2d(WIDTH, WIDTH, 1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(WIDTH, outputs, 1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, outputs, H, W) at the stride of the first map."""
        size = maps[0].shape[-2:]
        total = self.context(maps[-1].mean(dim=(2, 3), keepdim=True))
        for level, found in zip(self.level, maps, strict=True):
            total = total + functional.interpolate(level(found), size=size, mode="bilinear")
        logits: Tensor = self.mixed(total)
        return logits
