"""The labeling of a connected project, and whether its configuration fits it."""

from backend.config import ProjectConfig
from backend.errors import ConfigError, ProjectError
from backend.labeling.base import Labeling
from backend.labeling.masks import Masks
from backend.labeling.reader import read_labeling
from backend.store import ProjectRow
from model.errors import BadInput
from model.learners.registry import AUTO, OWN
from model.problems import problem
from model.querying.samplers import check_sampler


def labeling_of(project: ProjectRow) -> Labeling:
    """Return how a project's answers are read and its predictions written, by its label configuration.

    Raises:
        ProjectError: the label configuration cannot be worked on.
        ConfigError: the extra params, which may name the control tag, cannot be read.
    """
    config = ProjectConfig.from_extra_params(project.extra_params)
    return read_labeling(
        project.label_config, config.control, project.control or None, config.problem, not config.ignores_background
    )


def config_of(project: ProjectRow) -> ProjectConfig:
    """Return a project's configuration, with the defaults of what it labels where its labels can be read.

    Raises:
        ConfigError: the extra params cannot be read.
    """
    config = ProjectConfig.from_extra_params(project.extra_params)
    try:
        return config.suited(labeling_of(project).problem)
    except ProjectError:
        return config


def check_config(config: ProjectConfig, labeling: Labeling) -> None:
    """See that a project's configuration fits what it labels.

    Raises:
        ConfigError: its sampler needs what models of such labels do not give, or its learner does not fit such labels;
            names those that work.
    """
    of = problem(labeling.problem)
    if config.ignores_background and of.name != Masks.problem:
        raise ConfigError(f"background: '{config.background}' is for masks, not for {of.name} projects: leave it out")
    try:
        check_sampler(config.sampler, of, config.gain_per)
    except BadInput as error:
        raise ConfigError(str(error)) from None
    learners = ", ".join((AUTO, *of.learners))
    if config.learner not in (AUTO, *of.learners):
        raise ConfigError(f"learner: '{config.learner}' does not fit {of.name} projects: choose one of {learners}")
    if config.calls_for_own is not None and OWN not in of.learners:
        raise ConfigError(
            f"{config.calls_for_own} does not go with {of.name} projects, which read an encoder: leave it out"
        )
