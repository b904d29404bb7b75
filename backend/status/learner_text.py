"""What people are told of the encoder and of the learner of a model."""

from collections.abc import Mapping
from typing import Any

from backend.config import ProjectConfig
from backend.loop.facts import CHOSEN
from model.encoders.registry import TIMM, encoder_info
from model.learners.registry import FINETUNE, LEARNERS, LINEAR, OWN

FEATURES = {
    "both": "its last layer, and its last layer with the means of its stages, whose answers are averaged",
    "last": "its last layer",
    "last+mid": "its last layer with the means of its stages",
}


def encoder_of(config: ProjectConfig) -> str | None:
    """Return the name of a project's encoder; None where its model is a network of its own."""
    return None if config.own_network else encoder_info(config.encoder).name


def encoder_notice(config: ProjectConfig) -> str | None:
    """Return what people should know of an encoder that is not from our own list; None for the others."""
    name = encoder_of(config)
    if name is None or not name.startswith(TIMM):
        return None
    return f"The weights of the encoder '{name}' have a licence and a size of their own: 'make doctor' tells both."


def learner_text(config: ProjectConfig, learner: Mapping[str, Any] | None) -> str | None:
    """Return a sentence that says what a model is and why; None where nothing is noted. learner: of its round."""
    if learner is None:
        return None
    info = LEARNERS.get(learner.get("learner", OWN))
    if info is None:
        return None
    compared = _comparison((learner.get(CHOSEN) or {}).get("quality") or {})
    if info.name == OWN:
        return f"The model: {info.learns}.{compared}"
    if info.name == FINETUNE:
        return f"The model: {info.learns}, {encoder_of(config) or ''}".rstrip(" ,") + f".{compared}"
    text = f"The model: {info.learns} {encoder_of(config) or ''}".rstrip()
    text += f", of {FEATURES.get(str(learner.get('features')), 'its features')}"
    likelihood = learner.get("likelihood") or {}
    if len(likelihood) > 1:
        best, *others = sorted(likelihood.values(), reverse=True)
        text += f"; cross-validation on the labels chose it by {best - others[0]:.3f} nats a label"
    return f"{text}.{compared}"


def _comparison(quality: Mapping[str, float]) -> str:
    """Return a sentence that says how good each learner was on labels that it had not seen."""
    if len(quality) < 2:
        return ""
    names = {LINEAR: "the linear head", FINETUNE: "the fine-tuned block", OWN: "a network of our own"}
    *others, last = (f"{names.get(name, name)} {value:.0%}" for name, value in quality.items())
    return f" On labels that they had not seen, {', '.join(others)} and {last} were right."
