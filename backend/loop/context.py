"""What a worker works with: per process the settings, store and queue; per project its handles and configuration."""

from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from urllib.parse import urlsplit

from backend.addresses import AllowedAddresses
from backend.config import ProjectConfig, Settings
from backend.labeling.base import Labeling
from backend.labeling.project import check_config, labeling_of
from backend.loop.steps.features import Encoders
from backend.loop.timetable import Timetable
from backend.project_files import Files
from backend.queueing.meters import STUDIO_METER, Meters
from backend.queueing.queues import Queueing
from backend.store import ProjectRow, ProjectStore, Store
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import NamedToken


@dataclass(frozen=True)
class Context:
    """One per process, which opens its own connections.

    timetable: when this process last did what is due now and then.
    """

    settings: Settings
    store: Store
    queueing: Queueing
    timetable: Timetable = field(default_factory=Timetable)


@cache
def context() -> Context:
    """Open this process's context on first use."""
    settings = Settings.from_env()
    return Context(settings, Store.from_settings(settings), Queueing.from_settings(settings))


@dataclass(frozen=True)
class OpenProject:
    """One project as it was when it was opened. The step table hands each step the parts that it uses."""

    row: ProjectRow
    store: ProjectStore
    studio: StudioProject
    files: Files
    config: ProjectConfig
    labeling: Labeling
    encoders: Encoders
    device: str


def open_project(context: Context, project_id: int) -> OpenProject:
    """Open a project by our id.

    Raises:
        Superseded: it is not in the store any more.
        ProjectError: its label configuration cannot be worked on.
        ConfigError: its extra params cannot, or do not fit its labels.
    """
    store = context.store.of(project_id)
    row = store.row()
    config, labeling = ProjectConfig.from_extra_params(row.extra_params), labeling_of(row)
    config = config.suited(labeling.problem)
    check_config(config, labeling)
    return OpenProject(
        row=row,
        store=store,
        studio=studio_of(context, row),
        files=Files.of(context.settings.data_dir, project_id),
        config=config,
        labeling=labeling,
        encoders=Encoders(context.settings.data_dir / "encoders", context.settings.device),
        device=context.settings.device,
    )


def studio_of(context: Context, project: ProjectRow) -> StudioProject:
    """Return the handle of a project in its Label Studio; connections are shared by server and token.

    LABEL_STUDIO_URL wins over where the project was connected from, so that setting it repairs existing connections.
    """
    key = context.settings.label_studio_api_key if _may_have_key(context.settings, project) else None
    token = context.store.projects.token(project)
    api_key = key.get_secret_value() if key else None
    server = context.settings.label_studio_url or project.server
    allowed, meters = context.settings.allowed_addresses, context.queueing.meters
    studio = _label_studio(server, token, api_key, allowed, meters, project.hostname)
    return studio.project(project.studio_project_id)


def withheld_key(context: Context, project: ProjectRow) -> str:
    """Return a sentence that says that LABEL_STUDIO_API_KEY was not tried, or an empty text where it was."""
    if context.settings.label_studio_api_key is None or _may_have_key(context.settings, project):
        return ""
    return f" LABEL_STUDIO_API_KEY was not sent to {project.server}: set LABEL_STUDIO_URL to that address as well."


def _may_have_key(settings: Settings, project: ProjectRow) -> bool:
    """Tell whether the operator's own key may be sent to a project's server.

    Anyone who reaches ``/setup`` can name a server there; only the server that the operator has named, or one on this
    machine, gets the key.
    """
    if settings.label_studio_url is not None:
        return True  # no other server is called
    return urlsplit(project.server).hostname in {"localhost", "127.0.0.1", "::1"}


@lru_cache(maxsize=64)  # tokens come and go
def _label_studio(
    server: str,
    token: str | None,
    api_key: str | None,
    allowed: AllowedAddresses,
    meters: Meters,
    hostname: str | None,
) -> LabelStudio:
    tokens = (("the token that Label Studio sent to /setup", token), ("LABEL_STUDIO_API_KEY", api_key))
    named = [NamedToken(name, value) for name, value in tokens if value]
    return LabelStudio(server, named, allowed, partial(meters.note, STUDIO_METER), hostname)
