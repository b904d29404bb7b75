"""Generated images: blurred noise with a bright spot, as large a set as is asked for."""

import numpy as np
import numpy.typing as npt


def colour_images(count: int, side: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return (count, side, side, 3) images; what they show does not matter for how long they take."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, side // 4, side // 4, 3), np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    rows, columns = generator.integers(0, side // 2, (2, count))
    for image, row, column in zip(images, rows, columns, strict=True):
        image[row : row + side // 4, column : column + side // 4] += 55
    return images
