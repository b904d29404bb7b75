import numpy as np
import pytest

from backend.loop.steps.record import rounded


@pytest.mark.parametrize(
    ("loss", "kept"),
    [
        (0.0, 0.0),
        (1.234, 1.23),
        (2.345, 2.34),
        (4.991, 5.0),
        (6.789, 6.8),
        (0.09999, 0.1),
        (9.99e-5, 1e-4),
        (12345.0, 12300.0),
    ],
)
def test_rounded_keeps_three_digits_in_steps(loss: float, kept: float) -> None:
    assert rounded(loss) == kept
    assert rounded(-loss) == -kept


def test_rounded_errs_by_half_a_percent_at_most_and_keeps_the_order() -> None:
    losses = np.sort(10 ** np.random.default_rng(0).uniform(-6, 3, 20_000))
    kept = np.array([rounded(float(loss)) for loss in losses])
    assert np.abs(kept / losses - 1).max() <= 0.005 + 1e-9
    assert (np.diff(kept) >= 0).all()
    assert len(np.unique(kept[(losses >= 0.1) & (losses < 1)])) <= 351
