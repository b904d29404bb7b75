"""Two heads, each fitted to one half of a sample, so that every image gets its loss from one that has not seen it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.errors import BadInput, ModelError
from model.querying.outputs import IntArray
from model.training.loop import read_weights

SAMPLE = 1000  # images that the heads are fitted to; of more, drawn ones
FORMAT = 1  # of the file of the heads


def draw_sample(images: int, seed: int) -> IntArray:
    """Return the images that heads are fitted to, every other one of which is of the same half.

    Raises BadInput for a pool of fewer than two.
    """
    sample = np.random.default_rng([seed, 0]).permutation(images)[:SAMPLE]
    if len(sample) < 2:
        raise BadInput(f"a pool of {len(sample)} images has none to compare: add images")
    return sample


def read_heads(weights: Path, encoder: str) -> dict[str, Any]:
    """Return the content of a file of heads; raise ModelError where it is damaged, or of another encoder."""
    content = read_weights(weights)
    if content is None or content.get("format") != FORMAT or content.get("encoder") != encoder:
        raise ModelError(f"{weights} holds no pretext heads of '{encoder}', or they are damaged")
    return content


def by_the_unseen(losses: npt.NDArray[np.float32], sample: Tensor, indices: IntArray) -> npt.NDArray[np.float32]:
    """Return the loss (n,) of each image by the head that has not seen it, from those of both, (2, n).

    An image that neither has seen gets the mean of the two.
    """
    place = {int(index): number for number, index in enumerate(sample.tolist())}
    seen = np.array([place.get(int(index), -1) for index in indices])
    by = np.where(seen >= 0, seen % 2, -1)  # the head that has seen the image
    chosen: npt.NDArray[np.float32] = np.where(by == 0, losses[1], np.where(by == 1, losses[0], losses.mean(axis=0)))
    return chosen
