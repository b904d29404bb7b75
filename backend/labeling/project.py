"""The labeling of a connected project, and whether its configuration fits it."""

from backend.config import ProjectConfig
from backend.errors import ConfigError
from backend.labeling.base import Labeling
from backend.labeling.reader import read_labeling
from backend.store import ProjectRow
from model.errors import BadInput
from model.problems import problem
from model.querying.samplers import check_sampler


def labeling_of(project: ProjectRow) -> Labeling:
    """Return how a project's answers are read and its predictions written, by its label configuration.

    Raises:
        ProjectError: the label configuration cannot be worked on.
        ConfigError: the extra params, which may name the control tag, cannot be read.
    """
    named = ProjectConfig.from_extra_params(project.extra_params).control
    return read_labeling(project.label_config, named, learned=project.control or None)


def check_config(config: ProjectConfig, labeling: Labeling) -> None:
    """See that a project's configuration fits what it labels.

    Raises:
        ConfigError: its sampler needs what models of such labels do not give; names the samplers that work.
    """
    try:
        check_sampler(config.sampler, problem(labeling.problem))
    except BadInput as error:
        raise ConfigError(str(error)) from None
