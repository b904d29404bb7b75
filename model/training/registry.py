"""The names of recipes and of joint trainings. It loads no torch.

The recipes themselves have the same names in ``RECIPES`` (``training.recipes``, of the main model) and in
``PRETEXT_RECIPES`` (``pretext.run``, of the pretext network).
"""

from dataclasses import dataclass

TINY = 16  # pixels; images up to this side are learned in other numbers of epochs, and are nothing for an encoder


@dataclass(frozen=True)
class RecipeInfo:
    """A training recipe.

    name: in the configuration. source: where its numbers come from. largest_side: to which images are brought that are
    larger than it, in pixels.
    """

    name: str
    source: str
    largest_side: int


@dataclass(frozen=True)
class JointInfo:
    """What a main model is trained on besides the labels.

    name: in the configuration. source: paper. training: duration of a training as a multiple of that without it.
    """

    name: str
    source: str
    training: float


RECIPE_INFOS: dict[str, RecipeInfo] = {
    info.name: info
    for info in (
        RecipeInfo(name="auto", source="ours: few labels, few seconds", largest_side=96),
        RecipeInfo(name="paper", source="PT4AL, section 5.1", largest_side=224),
    )
}

JOINTS: dict[str, JointInfo] = {
    info.name: info
    for info in (
        JointInfo(name="none", source="", training=1.0),
        JointInfo(name="barlow_twins", source="ours, after DALBT", training=2.6),  # docs/configuration.md
        JointInfo(name="dalbt", source="DALBT", training=11.0),  # image passes, counted
    )
}
