"""Query strategies once there is a main model, by name."""

from model.errors import UnknownName
from model.samplers.base import Sampler
from model.samplers.entropy import Entropy
from model.samplers.least_confidence import LeastConfidence
from model.samplers.margin import Margin
from model.samplers.random import Random

SAMPLERS: dict[str, Sampler] = {
    "random": Random(),
    "least_confidence": LeastConfidence(),
    "margin": Margin(),
    "entropy": Entropy(),
}


def sampler(name: str) -> Sampler:
    """Return the sampler of that name; raise UnknownName with the choices."""
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    return SAMPLERS[name]
