"""What people need to know to choose a strategy; docs/configuration.md shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StrategyInfo:
    """A record of a first query or a sampler.

    asks: which images. source: paper or code. cost: processor time of training and of scoring the pool, without a GPU,
    as multiples of those of ``least_confidence``.
    """

    asks: str
    source: str
    cost: str = "1, 1"
