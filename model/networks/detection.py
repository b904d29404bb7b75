"""A detector on the feature maps of an encoder: torchvision's FCOS (Tian et al. 2019), small enough for a processor."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork

WIDTH = 64  # channels of the pyramid and of the head
CONVS = 1  # of each of the head's towers; two are no better on few labels
REACH = 0.5  # of FCOS's: which sizes a level is responsible for, as its stride is; maps here are coarser than FCOS's
LEAST = 0.03  # score below which a box is no box
OVERLAP = 0.5  # from which the less sure one of two boxes of a class is dropped

Targets = Sequence[dict[str, Tensor]]  # of each image "boxes" (m, 4) as x0, y0, x1, y1 in pixels, and "labels" (m,)


class MapDetector(nn.Module):
    """Boxes from feature maps: (B, C, H, W) each, coarse last.

    shapes: of the maps of an image, (C, H, W) each. side: of the images in pixels. Inputs are standardised by ``mean``
    and ``std`` of each channel, which ``standardise`` sets.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], side: int, classes: int) -> None:
        super().__init__()
        self.side = side
        self.pyramid = FeaturePyramidNetwork([shape[0] for shape in shapes], WIDTH)
        self.pyramid.out_channels = WIDTH  # as FCOS asks of a backbone
        sizes = tuple((REACH * side / shape[1],) for shape in shapes)
        anchors = AnchorGenerator(sizes, ((1.0,),) * len(sizes))
        head = FCOSHead(WIDTH, 1, classes, CONVS)
        self.fcos = FCOS(
            self.pyramid, classes, anchor_generator=anchors, head=head, score_thresh=LEAST, nms_thresh=OVERLAP
        )
        for number, shape in enumerate(shapes):
            self.register_buffer(f"mean{number}", torch.zeros(1, shape[0], 1, 1))
            self.register_buffer(f"std{number}", torch.ones(1, shape[0], 1, 1))

    @torch.no_grad()
    def standardise(self, maps: Sequence[Tensor]) -> None:
        """Set mean and deviation of the channels to those of these maps."""
        for number, stage in enumerate(maps):
            getattr(self, f"mean{number}").copy_(stage.float().mean(dim=(0, 2, 3), keepdim=True))
            getattr(self, f"std{number}").copy_(stage.float().std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-3))

    def loss(self, maps: Sequence[Tensor], targets: Targets) -> Tensor:
        """Return the loss of a minibatch: of classes, boxes and centres."""
        heads, anchors, levels = self._heads(maps)
        losses: dict[str, Tensor] = self.fcos.compute_loss(list(targets), heads, anchors, levels)
        return torch.stack(list(losses.values())).sum()

    @torch.inference_mode()
    def detect(self, maps: Sequence[Tensor], contents: Sequence[tuple[int, int]], most: int) -> list[dict[str, Tensor]]:
        """Return ``boxes`` (m, 4) as x0, y0, x1, y1 in pixels, ``scores`` and ``labels`` of each image, surest first.

        contents: width and height of each image in its view. most: boxes of an image.
        """
        heads, anchors, levels = self._heads(maps)
        self.fcos.detections_per_img = most
        split = {name: list(torch.split(values, levels, dim=1)) for name, values in heads.items()}
        parts = [list(torch.split(part, levels)) for part in anchors]
        shapes = [(height, width) for width, height in contents]
        found: list[dict[str, Tensor]] = self.fcos.postprocess_detections(split, parts, shapes)
        return found

    def places(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what ``detect`` chooses from, of one image: the box of each place of its maps, and its scores.

        Boxes are (n, 4), not cut off at the image's edge; scores (C, n), one for each class.
        """
        heads, anchors, _ = self._heads(maps)
        boxes: Tensor = self.fcos.box_coder.decode(heads["bbox_regression"][0], anchors[0])
        scores = torch.sqrt(heads["cls_logits"][0].sigmoid() * heads["bbox_ctrness"][0].sigmoid())
        return boxes, scores.T

    def _heads(self, maps: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """Return what the head says of each place, the anchors of each image, and the places of each level."""
        scaled: dict[str, Tensor] = OrderedDict(
            (str(number), (stage.float() - self._buffer("mean", number)) / self._buffer("std", number))
            for number, stage in enumerate(maps)
        )
        features = list(self.pyramid(scaled).values())
        heads: dict[str, Tensor] = self.fcos.head(features)
        images = ImageList(
            features[0].new_empty(len(maps[0]), 3, self.side, self.side), [(self.side,) * 2] * len(maps[0])
        )
        anchors: list[Tensor] = self.fcos.anchor_generator(images, features)
        return heads, anchors, [stage.shape[2] * stage.shape[3] for stage in features]

    def _buffer(self, name: str, number: int) -> Tensor:
        buffer: Any = getattr(self, f"{name}{number}")
        return buffer  # type: ignore[no-any-return]
