"""The geometry of a view: an image of any aspect in a square, at the top left, with the rest of the square padded."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PADDING = 127  # grey, which the encoders take for nothing


def padded(content: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return an image (h, w, 3), none of whose lengths is above ``side``, at the top left of a square."""
    view = np.full((side, side, 3), PADDING, np.uint8)
    view[: content.shape[0], : content.shape[1]] = content
    return view


@dataclass(frozen=True)
class Letterbox:
    """How an image of ``width`` x ``height`` pixels, as a browser shows it, lies in a square of ``side`` pixels."""

    width: int
    height: int
    side: int

    @property
    def content(self) -> tuple[int, int]:
        """Width and height of the image in the view, in pixels: the longer one is the side, and none is less than 1."""
        longer = max(self.width, self.height)
        scale = self.side / longer
        return max(round(self.width * scale), 1), max(round(self.height * scale), 1)

    def to_view(self, shares: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return points or sizes in the view's pixels, (..., 2) of x and y as shares of the image."""
        return np.asarray(shares) * np.array(self.content, np.float64)

    def to_shares(self, pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return points or sizes as shares of the image, (..., 2) of x and y in the view's pixels."""
        return np.asarray(pixels) / np.array(self.content, np.float64)
