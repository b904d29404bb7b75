"""Pretext tasks as linear heads on a frozen encoder: which one a pool gets, and its losses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.data.bank import ImageBank
from model.encoders.encoder import Encoder, open_encoder
from model.encoders.maps import open_maps
from model.encoders.registry import encoder_info
from model.errors import ModelError
from model.pretext.colorization import FEWEST, count_coloured
from model.pretext.colours_on_encoder import colour_losses, fit_colours
from model.pretext.on_encoder import encoder_side, fit_rotation, rotation_losses
from model.progress import Progress, ignore_progress
from model.querying.outputs import IntArray
from model.training.loop import read_weights

COLORIZATION = "colorization"


class Heads:
    """Opens the encoder of a bank's images. name, folder, device, threads: see ``open_encoder``.

    opened: opens the encoder for images of a side instead.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        device: str = "cpu",
        threads: int | None = None,
        opened: Callable[[int], Encoder] | None = None,
    ) -> None:
        """Open nothing yet."""
        self._name, self._folder, self._device, self._threads = encoder_info(name).name, folder, device, threads
        self._opened = opened

    def _open(self, side: int) -> Encoder:
        if self._opened is not None:
            return self._opened(side)
        return open_encoder(self._name, side, self._folder, self._device, self._threads)

    def fit(
        self,
        task: str,
        bank: ImageBank,
        *,
        out: Path,
        work: Path,
        seed: int = 0,
        expired: Callable[[], bool] = lambda: False,
        progress: Progress = ignore_progress,
    ) -> bool:
        """Fit the heads of a task to the bank and tell whether that is done; see ``fit_rotation``.

        Where hardly any image has colour, the task is rotation in place of colorization.
        """
        coloured, looked_at = count_coloured(bank)
        side = encoder_side(bank.side)
        if task == COLORIZATION and coloured >= FEWEST * looked_at:
            maps = open_maps(self._name, side, self._folder, self._device, self._threads)
            return fit_colours(
                bank, maps, out=out, work=work / COLORIZATION, seed=seed, expired=expired, progress=progress
            )
        encoder = self._open(side)
        return fit_rotation(bank, encoder, out=out, work=work, seed=seed, expired=expired, progress=progress)

    def losses(self, bank: ImageBank, weights: Path, indices: IntArray, *, work: Path) -> npt.NDArray[np.float32]:
        """Return the loss (n,) of these images by the heads that ``fit`` wrote; see ``rotation_losses``."""
        content, side = read_weights(weights), encoder_side(bank.side)
        if content is None:
            raise ModelError(f"{weights} holds no pretext heads of '{self._name}', or they are damaged")
        if content.get("task") == COLORIZATION:
            maps = open_maps(self._name, side, self._folder, self._device, self._threads)
            return colour_losses(bank, maps, weights, indices)
        encoder = self._open(side)
        return rotation_losses(bank, encoder, weights, indices, work=work)
