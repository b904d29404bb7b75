"""The labeling of a connected project."""

from backend.config import ProjectConfig
from backend.labeling.base import Labeling
from backend.labeling.reader import read_labeling
from backend.store import ProjectRow


def labeling_of(project: ProjectRow) -> Labeling:
    """Return how a project's answers are read and its predictions written, by its label configuration.

    Raises:
        ProjectError: the label configuration cannot be worked on.
        ConfigError: the extra params, which may name the control tag, cannot be read.
    """
    return read_labeling(project.label_config, ProjectConfig.from_extra_params(project.extra_params).control)
