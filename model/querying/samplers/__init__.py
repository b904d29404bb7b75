"""Samplers, by name: query strategies for rounds that have a main model."""

from model.errors import BadInput, UnknownName
from model.problems import Problem
from model.querying.samplers.badge import Badge
from model.querying.samplers.bald import Bald
from model.querying.samplers.base import Sampler
from model.querying.samplers.batch_bald import BatchBald
from model.querying.samplers.class_balanced import ClassBalanced
from model.querying.samplers.core_gcn import CoreGcn
from model.querying.samplers.core_set import CoreSet
from model.querying.samplers.dal_osr import DalOsr
from model.querying.samplers.doubtful_part import DoubtfulPart
from model.querying.samplers.ensemble import Ensemble
from model.querying.samplers.entropy import Entropy
from model.querying.samplers.learning_loss import LearningLoss
from model.querying.samplers.least_confidence import LeastConfidence
from model.querying.samplers.margin import Margin
from model.querying.samplers.mc_entropy import McEntropy
from model.querying.samplers.pal import Pal
from model.querying.samplers.pretext_loss import PretextLoss
from model.querying.samplers.random import Random
from model.querying.samplers.region_herding import RegionHerding
from model.querying.samplers.released_confidence import ReleasedConfidence
from model.querying.samplers.ta_vaal import TaVaal
from model.querying.samplers.uncertainty_herding import UncertaintyHerding
from model.querying.samplers.vaal import Vaal
from model.querying.samplers.variation_ratio import VariationRatio
from model.querying.samplers.waal import Waal
from model.querying.samplers.weibull import Weibull
from model.querying.selection import GAIN_PER

SAMPLERS: dict[str, Sampler] = {
    "random": Random(),
    "least_confidence": LeastConfidence(),
    "released_confidence": ReleasedConfidence(),
    "margin": Margin(),
    "entropy": Entropy(),
    "doubtful_part": DoubtfulPart(),
    "bald": Bald(),
    "mc_entropy": McEntropy(),
    "batch_bald": BatchBald(),
    "variation_ratio": VariationRatio(),
    "ens_least_confidence": Ensemble("least_confidence"),
    "ens_margin": Ensemble("margin"),
    "ens_entropy": Ensemble("entropy"),
    "core_set": CoreSet(),
    "core_gcn": CoreGcn(),
    "badge": Badge(),
    "uncertainty_herding": UncertaintyHerding(),
    "region_herding": RegionHerding(),
    "class_balanced": ClassBalanced(),
    "weibull": Weibull(),
    "dal_osr": DalOsr(),
    "learning_loss": LearningLoss(detached=False),
    "learning_loss_detached": LearningLoss(detached=True),
    "vaal": Vaal(),
    "ta_vaal": TaVaal(),
    "waal": Waal(),
    "pal": Pal(),
    "highest_loss": PretextLoss(highest=True),
    "lowest_loss": PretextLoss(highest=False),
}

BY_GAIN = ("uncertainty_herding",)  # samplers that compute what an image gains


def sampler(name: str) -> Sampler:
    """Return the sampler of that name; raise UnknownName with the choices."""
    if name not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    return SAMPLERS[name]


def samplers_for(problem: Problem) -> tuple[str, ...]:
    """Return the names of the samplers that need no more than models of this problem give."""
    return tuple(name for name, strategy in SAMPLERS.items() if strategy.needs <= problem.outputs)


def check_sampler(name: str, problem: Problem, gain_per: str = GAIN_PER[0]) -> None:
    """Raise UnknownName for a name that no sampler has, BadInput for a sampler that the problem cannot serve.

    gain_per: a name of GAIN_PER that sampler and problem have to go with.
    """
    missing = sampler(name).needs - problem.outputs
    if not missing:
        if gain_per not in GAIN_PER:
            raise UnknownName("gain_per", gain_per, GAIN_PER)
        if gain_per != GAIN_PER[0] and not (problem.counts_objects and name in BY_GAIN):
            raise BadInput(
                f"gain_per: '{gain_per}' is for boxes, and for the sampler {', '.join(BY_GAIN)}: leave it out"
            )
        return
    reasons = [_REASONS.get(need, f"'{need}'") for need in sorted(missing)]
    raise BadInput(
        f"sampler: '{name}' needs {' and '.join(dict.fromkeys(reasons))}, which "
        f"{problem.name} projects do not have: choose one of {', '.join(samplers_for(problem))}"
    )


_POSTERIOR = "one posterior over classes that exclude each other"
# What an output is that not every problem has.
_REASONS = {
    "probs": _POSTERIOR,
    "mutual_information": _POSTERIOR,
    "dropout_entropy": _POSTERIOR,
    "logits": _POSTERIOR,
    "dropout_probs": _POSTERIOR,
    "ensemble_probs": _POSTERIOR,
    "labels": "one class an image",
    "margin": _POSTERIOR,
    "entropy": _POSTERIOR,
    "doubtful_part": "masks",
    "places": "masks",
    "class_maps": "masks",
    "class_probs": "a probability of each class for itself",
}
