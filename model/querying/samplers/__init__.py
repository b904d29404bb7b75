"""Query strategies once there is a main model, by name."""

from model.errors import UnknownName
from model.querying.samplers.badge import Badge
from model.querying.samplers.bald import Bald
from model.querying.samplers.base import Sampler
from model.querying.samplers.class_balanced import ClassBalanced
from model.querying.samplers.core_set import CoreSet
from model.querying.samplers.entropy import Entropy
from model.querying.samplers.learning_loss import LearningLoss
from model.querying.samplers.least_confidence import LeastConfidence
from model.querying.samplers.margin import Margin
from model.querying.samplers.random import Random
from model.querying.samplers.uncertainty_herding import UncertaintyHerding
from model.querying.samplers.vaal import Vaal
from model.querying.samplers.variation_ratio import VariationRatio
from model.querying.samplers.weibull import Weibull

SAMPLERS: dict[str, Sampler] = {
    "random": Random(),
    "least_confidence": LeastConfidence(),
    "margin": Margin(),
    "entropy": Entropy(),
    "bald": Bald(),
    "variation_ratio": VariationRatio(),
    "core_set": CoreSet(),
    "badge": Badge(),
    "uncertainty_herding": UncertaintyHerding(),
    "class_balanced": ClassBalanced(),
    "weibull": Weibull(),
    "learning_loss": LearningLoss(detached=False),
    "learning_loss_detached": LearningLoss(detached=True),
    "vaal": Vaal(),
}


def sampler(name: str) -> Sampler:
    """Return the sampler of that name; raise UnknownName with the choices."""
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    return SAMPLERS[name]
