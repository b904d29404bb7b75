"""What the loss curve of a pretext training says. It loads no torch."""

from collections.abc import Sequence
from statistics import fmean

QUARTER = 4
FALLING = 0.05  # share of the whole fall of the loss from which on it has not settled


def fall_at_the_end(curve: Sequence[float]) -> float | None:
    """Return by how much the loss fell from the third quarter of a training to the last, as a share of its whole fall.

    curve: the mean loss of each epoch. 0 where it rose; None with fewer than four epochs, or where the loss never fell.
    From FALLING on, a longer training would learn more. Below it may be too short all the same: the learning rate of
    most recipes falls to zero, and settles any loss.
    """
    part = len(curve) // QUARTER
    if not part:
        return None
    third, last = fmean(curve[-2 * part : -part]), fmean(curve[-part:])
    whole = curve[0] - last
    return max(third - last, 0.0) / whole if whole > 0 else None
