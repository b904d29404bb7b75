"""What a job works with: settings, store, queue, and a project's Label Studio, configuration and files."""

from dataclasses import dataclass
from functools import cache, lru_cache, partial
from urllib.parse import urlsplit

from backend.addresses import AllowedAddresses
from backend.config import ProjectConfig, Settings
from backend.errors import Superseded
from backend.labeling.base import Labeling
from backend.labeling.reader import read_labeling
from backend.project_files import Files
from backend.queueing.meters import STUDIO_METER, Meters
from backend.queueing.queues import Queueing
from backend.store import ProjectRow, Store
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import NamedToken


@dataclass(frozen=True)
class Context:
    """One per process; opens its own connections."""

    settings: Settings
    store: Store
    queueing: Queueing


@cache
def context() -> Context:
    """Open this process's context on first use."""
    settings = Settings.from_env()
    return Context(settings, Store(settings.database, settings.data_dir), Queueing.from_settings(settings))


class Work:
    """One project, as a step sees it."""

    def __init__(self, context: Context, project: ProjectRow) -> None:
        """Read the project's configuration and labels.

        Raises:
            ProjectError: the label configuration cannot be worked on.
            ConfigError: the extra params cannot.
        """
        self.context = context
        self.store = context.store
        self.key = project.id
        self.project_store = context.store.of(project.id)
        self._read(project)

    def reload(self) -> None:
        """Read the project's row again after it has changed; errors as at the beginning."""
        project = self.store.projects.get(self.key)
        if project is None:
            raise Superseded(f"project {self.key} is not in the store any more")
        self._read(project)

    def _read(self, project: ProjectRow) -> None:
        self.project = project
        self.config = ProjectConfig.from_extra_params(project.extra_params)
        self.labeling: Labeling = read_labeling(project.label_config, self.config.control)

    @property
    def studio(self) -> StudioProject:
        """The project in Label Studio."""
        return studio_of(self.context, self.project)

    @property
    def files(self) -> Files:
        """The project's files."""
        return Files.of(self.context.settings.data_dir, self.key)

    @property
    def side(self) -> int:
        """The side of the bank's images in pixels."""
        if self.project.image_side is None:
            raise Superseded(f"project {self.key} has no image bank any more")
        return self.project.image_side


def studio_of(context: Context, project: ProjectRow) -> StudioProject:
    """Return the handle of a project in its Label Studio; connections are shared by server and token.

    LABEL_STUDIO_URL wins over where the project was connected from, so that setting it mends what is connected already.
    """
    key = context.settings.label_studio_api_key if _may_have_key(context.settings, project) else None
    token = context.store.projects.token(project)
    api_key = key.get_secret_value() if key else None
    server = context.settings.label_studio_url or project.server
    studio = _label_studio(server, token, api_key, context.settings.allowed_addresses, context.queueing.meters)
    return studio.project(project.studio_project_id)


def withheld_key(context: Context, project: ProjectRow) -> str:
    """Say that LABEL_STUDIO_API_KEY was not tried, where it was not."""
    if context.settings.label_studio_api_key is None or _may_have_key(context.settings, project):
        return ""
    return f" LABEL_STUDIO_API_KEY was not sent to {project.server}: set LABEL_STUDIO_URL to that address as well."


def _may_have_key(settings: Settings, project: ProjectRow) -> bool:
    """Tell whether the operator's own key may be sent to a project's server.

    Anyone who reaches ``/setup`` can name a server there; only the one that the operator has named, or one on this
    machine, gets the key.
    """
    if settings.label_studio_url is not None:
        return True  # no other server is called
    return urlsplit(project.server).hostname in {"localhost", "127.0.0.1", "::1"}


@lru_cache(maxsize=64)  # tokens come and go
def _label_studio(
    server: str, token: str | None, api_key: str | None, allowed: AllowedAddresses, meters: Meters
) -> LabelStudio:
    named = (("the token that Label Studio sent to /setup", token), ("LABEL_STUDIO_API_KEY", api_key))
    return LabelStudio(
        server, [NamedToken(name, value) for name, value in named if value], allowed, partial(meters.note, STUDIO_METER)
    )
