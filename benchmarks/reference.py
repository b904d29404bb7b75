"""The paper's way, from its description (PT4AL, ECCV 2022, section 5.1 and appendix), to be compared with.

A Dataset that opens an image file and makes four rotated tensors, a DataLoader with two workers, four separate forward
passes a step, ResNet-18 in fp32, SGD, 15 epochs; the losses are extracted with a batch size of 1, by four forwards.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms.functional import rotate, to_tensor

EPOCHS = 15
BATCH = 256
WORKERS = 2


class RotatedFiles(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Image files, each in all four orientations."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image = to_tensor(Image.open(self._files[index]).convert("RGB"))
        return image, rotate(image, 90), rotate(image, 180), rotate(image, 270)


def network() -> nn.Module:
    """Build the CIFAR variant of ResNet-18 with four outputs."""
    module = resnet18(num_classes=4)
    module.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    module.maxpool = nn.Identity()
    return module


@dataclass(frozen=True)
class Pace:
    """Seconds an image: of one training epoch, and of the extraction."""

    train: float
    extract: float

    def seconds(self, images: int, epochs: int = EPOCHS) -> float:
        """Return what training and extraction of so many images take at this pace."""
        return images * (epochs * self.train + self.extract)


def measure_pace(files: Sequence[Path], *, steps: int, extracted: int) -> Pace:
    """Run ``steps`` minibatches of training, after one that warms up, and the extraction of ``extracted`` images."""
    torch.manual_seed(0)
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    needed = [files[i % len(files)] for i in range((steps + 1) * BATCH)]
    batches = iter(DataLoader(RotatedFiles(needed), BATCH, shuffle=True, num_workers=WORKERS))
    module.train()
    _step(module, optimizer, next(batches))
    started = time.perf_counter()
    for batch in batches:
        _step(module, optimizer, batch)
    train = (time.perf_counter() - started) / (steps * BATCH)
    module.eval()
    started = time.perf_counter()
    with torch.no_grad():
        for views in DataLoader(RotatedFiles(files[:extracted]), 1, num_workers=WORKERS):
            _loss(module, views).item()
    return Pace(train, (time.perf_counter() - started) / extracted)


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, views: Sequence[Tensor]) -> None:
    optimizer.zero_grad()
    _loss(module, views).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _loss(module: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Average the four cross-entropies (Eq. 1), each from a forward pass of its own."""
    losses = [functional.cross_entropy(module(view), torch.full((len(view),), turn)) for turn, view in enumerate(views)]
    return torch.stack(losses).mean()
