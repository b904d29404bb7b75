"""Pretext losses -> batches: which round may ask which image (PT4AL, section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import BadInput, UnknownName
from model.querying.outputs import FloatArray, IntArray

SortKey = FloatArray | npt.NDArray[np.str_]


@dataclass(frozen=True)
class BatchOrder:
    """How a sorted pool becomes batches.

    key: losses -> values whose ascending or descending order is the order of the pool.
    descending: whether the largest key comes first.
    interleaved: batch i gets the ranks i, i+I, ... instead of one contiguous part.
    single: everything is in batch 0, so that every round asks over the whole pool.
    """

    key: Callable[[FloatArray], SortKey]
    descending: bool = True
    interleaved: bool = False
    single: bool = False


def _number(losses: FloatArray) -> SortKey:
    return losses


def _shuffled(losses: FloatArray) -> SortKey:
    """Return a hash of each loss: a random order that knows an image by its loss, whatever else is in the pool."""
    words = np.ascontiguousarray(losses, np.float32).view(np.uint32).astype(np.uint64)
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # the finalizer of SplitMix64
        words = (words ^ (words >> np.uint64(30))) * np.uint64(factor)
    key: SortKey = (words ^ (words >> np.uint64(31))).astype(np.float64)
    return key


def _text(losses: FloatArray) -> SortKey:
    """Return what PT4AL's released code sorts: printed numbers, so that ``9.5e-05`` counts as larger than ``1.2``."""
    return np.array([str(float(loss)) for loss in losses], np.str_)


BATCH_ORDERS: dict[str, BatchOrder] = {
    "high_first": BatchOrder(_number),
    "low_first": BatchOrder(_number, descending=False),
    "interleaved": BatchOrder(_number, interleaved=True),
    "none": BatchOrder(_number, single=True),
    "random": BatchOrder(_shuffled),  # PT4AL's ablation "sampling only", section 6.1
    "released_code": BatchOrder(_text),  # the order of the published numbers, which no sense is in by itself
}


def batch_order(name: str) -> BatchOrder:
    """Return the batch order of that name; raise UnknownName with the choices."""
    if name not in BATCH_ORDERS:
        raise UnknownName("batch order", name, BATCH_ORDERS)
    return BATCH_ORDERS[name]


def ranking(losses: FloatArray, order: str) -> IntArray:
    """Return the (N,) pool indices in the sorting order of ``order``, ties by pool index."""
    chosen = batch_order(order)
    key = chosen.key(_checked(losses))
    if not chosen.descending:
        return np.argsort(key, kind="stable")
    # A stable ascending sort of the reversed array, read backwards, is descending with ties still ascending in index.
    return len(key) - 1 - np.argsort(key[::-1], kind="stable")[::-1]


def split(losses: FloatArray, batches: int, order: str) -> IntArray:
    """Return the batch number (N,) of each pool index; sizes are equal to within one unless the order has one batch.

    losses: (N,) finite. Raises BadInput for other losses or fewer than one batch.
    """
    if batches < 1:
        raise BadInput(f"a pool is split into at least one batch, not {batches}")
    order_of_pool = ranking(losses, order)
    ranks = np.arange(len(order_of_pool))
    batch_of = np.zeros(len(order_of_pool), np.int64)
    if batch_order(order).single:
        return batch_of
    if batch_order(order).interleaved:
        batch_of[order_of_pool] = ranks % batches
    else:
        batch_of[order_of_pool] = ranks * batches // max(len(ranks), 1)
    return batch_of


def place(new_losses: FloatArray, losses: FloatArray, batches_of: IntArray, order: str) -> IntArray:
    """Return the batch (M,) of images that came after the split: that of an image with their loss.

    losses, batches_of: (N,) of the images that are split already. Nothing that has a batch moves. Raises BadInput
    where there is no split yet.
    """
    if len(losses) == 0 or len(losses) != len(batches_of):
        raise BadInput(f"placing needs a split: found {len(losses)} losses and {len(batches_of)} batches")
    chosen = batch_order(order)
    order_of_pool = ranking(losses, order)
    key = chosen.key(losses)[order_of_pool]
    new_key = chosen.key(_checked(new_losses))
    if chosen.descending:
        ranks = len(key) - np.searchsorted(key[::-1], new_key, side="right")
    else:
        ranks = np.searchsorted(key, new_key, side="left")
    if chosen.interleaved:
        return ranks % (int(batches_of.max()) + 1)
    return batches_of[order_of_pool[np.minimum(ranks, len(key) - 1)]]


def in_order(indices: IntArray, losses: FloatArray, order: str) -> IntArray:
    """Return ``indices`` in the order of the split: the members of a batch as the first query walks them.

    losses: (N,) of the whole pool. Ties go by pool index.
    """
    indices = np.sort(indices)
    return indices[ranking(losses[indices], order)]


def _checked(losses: FloatArray) -> FloatArray:
    losses = np.asarray(losses)
    if losses.ndim != 1:
        raise BadInput(f"losses have to be one number per image, found an array of shape {losses.shape}")
    bad = int((~np.isfinite(losses)).sum())
    if bad:
        raise BadInput(f"{bad} of {len(losses)} losses are not finite numbers: train the pretext task again")
    return losses
