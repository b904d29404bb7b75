"""Images that are equal, pixel by pixel."""

import numpy as np
import numpy.typing as npt

from model.querying.outputs import BoolArray, IntArray


def first_equals(digests: npt.NDArray[np.uint64], in_use: BoolArray) -> IntArray:
    """Return for each image the lowest pool index of an equal one that is in use, (N,); its own where there is none.

    digests: (n,) of the first n images, by pool index. in_use: (N,) the images that count.
    """
    first = np.arange(len(in_use))
    known = np.flatnonzero(in_use[: len(digests)])
    _, start, group = np.unique(digests[known], return_index=True, return_inverse=True)
    first[known] = known[start][group]
    return first
