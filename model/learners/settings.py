"""How a model is fitted, whatever the problem."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FitSettings:
    """What a fit depends on besides images, targets and pretext weights.

    learner: a name of ``model.learners.registry``, or ``auto``. The next five concern the learner ``own`` alone.
    network: ``auto`` is that of the pretext weights where the fit starts from them. init: where the weights come from.
    recipe: a name of ``model.training.recipes``. joint: a name of ``JOINTS`` in ``model.training.registry``.
    previous: weights of the last round's model, which ``init: previous`` goes on from; another file than is written.
    needs: the outputs that will be asked of ``Learner.predict``, some of which have to be trained for. epochs: None for
    the recipe's own. calibrated: whether the scores of a detector are chances, and it knows from which on to show
    boxes: their order does not depend on it. device: see ``model.device``.
    """

    learner: str = "own"
    network: str = "auto"
    init: str = "pretext"
    previous: Path | None = None
    recipe: str = "auto"
    joint: str = "none"
    needs: frozenset[str] = frozenset()
    epochs: int | None = None
    seed: int = 0
    calibrated: bool = True
    device: str = "auto"
