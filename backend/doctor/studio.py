"""What each project's Label Studio says: whether it is reached, reaches us, and serves our queue."""

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from backend.addresses import AllowedAddresses
from backend.config import SECRET_HEADER, Settings
from backend.doctor.finding import Finding
from backend.errors import BackendError, ProjectGone, StudioRefused, StudioUnreachable
from backend.loop.context import Context, studio_of, withheld_key
from backend.loop.facts import UNCERTAINTY_SAMPLING
from backend.loop.steps.maintain_connection import own_entries
from backend.loop.steps.pull import fetch_settings
from backend.queueing.queues import Queueing
from backend.store import JobState, ProjectRow, Store
from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import MlBackend, NamedToken, ProjectInfo

CONNECT = "connect this backend in the project's settings under Model"
PRIVATE = (
    "Label Studio refuses private addresses by itself: set ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false "
    "where it runs, and start it again"
)
REACH = "start it, or set LABEL_STUDIO_URL to the address it has from here"
ANYTHING = "none"  # a server that refuses it is there
SOON = "the workers put it back within half a minute; if they do not, see their log"
CONNECTED = "CO"


def check_studio(settings: Settings) -> Iterator[Finding]:
    """Try the address and the key that the environment names, before any project is connected."""
    if settings.label_studio_url is None:
        return
    tokens = [NamedToken("LABEL_STUDIO_API_KEY", settings.label_studio_api_key or ANYTHING)]
    studio = LabelStudio(settings.label_studio_url, tokens)
    try:
        studio.session.get("/api/projects/", page_size=1, include="id")
    except StudioRefused as error:
        if settings.label_studio_api_key is not None:
            yield Finding("LABEL_STUDIO_API_KEY", str(error), "create a token in Label Studio and set it to that")
            return
        yield Finding("LABEL_STUDIO_URL", f"{settings.label_studio_url} answers")
    except BackendError as error:
        yield Finding("LABEL_STUDIO_URL", str(error), REACH)
    else:
        yield Finding("LABEL_STUDIO_URL", f"{settings.label_studio_url} answers and takes LABEL_STUDIO_API_KEY")


def check_projects(settings: Settings, store: Store, queueing: Queueing | None) -> Iterator[Finding]:
    """Look at every connected project; at those of a server that is down not one by one."""
    projects = store.projects.all(active=True)
    if not projects:
        yield Finding("projects", f"none is connected yet; {CONNECT}. If Label Studio answers 403: {PRIVATE}")
    here = Context(settings, store, queueing or Queueing("unix:///nowhere"))
    down: Counter[str] = Counter()
    for project in projects:
        server = settings.label_studio_url or project.server
        if server in down:
            down[server] += 1
            continue
        for finding in _check_project(here, project):
            yield replace(finding, name=f"project {project.studio_project_id}, {finding.name}")
            if finding.down:
                down[server] = 0
    for server, others in down.items():
        if others:
            yield Finding("projects", f"{others} more on {server} cannot be looked at")


def _check_project(here: Context, project: ProjectRow) -> Iterator[Finding]:
    studio = studio_of(here, project)
    try:
        info = fetch_settings(studio, project)
        backends = studio.ml_backends()
    except StudioUnreachable as error:
        yield Finding("Label Studio", str(error), REACH, down=True)
        return
    except StudioRefused as error:
        yield Finding(
            "token", f"{error}{withheld_key(here, project)}", "create a token and set LABEL_STUDIO_API_KEY to it"
        )
        return
    except ProjectGone as error:
        yield Finding("project", str(error), "nothing has to be done: it is put to rest by itself")
        return
    except BackendError as error:
        yield Finding("Label Studio", str(error), "see Label Studio's log")
        return
    yield Finding("Label Studio", f"{studio.base} answers and takes our token")
    ours = own_entries(backends, project)
    if not ours:
        yield Finding("connection", "this backend is not among the project's models any more", CONNECT)
        return
    yield _reached(ours[0])
    if len(ours) > 1:
        text = f"{len(ours)} of the project's models have the address {ours[0].url}"
        yield Finding("connection", text, "delete all but one of them (Settings > Model)")
    if project.error is None:  # it is put up again with what the error is about
        yield _webhook(here, studio, project, ours[0])
    yield from _served(here, project, info)
    yield from _noted(here, project)


def _reached(ours: MlBackend) -> Finding:
    if ours.state == CONNECTED:
        return Finding("connection", f"Label Studio reaches {ours.url}")
    private = is_private(ours.url)
    fix = (
        f"{PRIVATE}; and see that {ours.url} answers from there"
        if private
        else f"see that {ours.url} answers from there"
    )
    return Finding("connection", f"Label Studio does not reach {ours.url} (state '{ours.state}')", fix)


def _webhook(here: Context, studio: StudioProject, project: ProjectRow, ours: MlBackend) -> Finding:
    url = f"{ours.url.rstrip('/')}/webhook"
    fix = f"{SOON}. {PRIVATE}" if is_private(url) else SOON
    try:
        hooks = [hook for hook in studio.webhooks() if hook.url.rstrip("/") == url]
    except BackendError as error:
        return Finding("webhook", str(error), fix)
    if not hooks:
        return Finding("webhook", f"there is none to {url}: answers are noticed by the timer alone", fix)
    secret = here.store.projects.webhook_secret(project)
    if not any(hook.is_active and hook.headers.get(SECRET_HEADER) == secret for hook in hooks):
        return Finding("webhook", "it is switched off, or does not send our secret", fix)
    return Finding("webhook", f"there, with its secret, to {url}")


def _served(here: Context, project: ProjectRow, info: ProjectInfo) -> Iterator[Finding]:
    current = here.store.of(project.id).rounds.current()
    if current is None or current.live_at is None:
        yield Finding("queue", "no round is served yet")
        return
    if info.sampling != UNCERTAINTY_SAMPLING:
        yield Finding("sampling", f"it is '{info.sampling}', so that images come in another order than ours", SOON)
    if info.model_version != current.model_version:
        yield Finding("version", f"it is '{info.model_version}', ours is '{current.model_version}'", SOON)
    if info.sampling == UNCERTAINTY_SAMPLING and info.model_version == current.model_version:
        yield Finding("queue", f"round {current.number + 1} is served as {current.model_version}")


def _noted(here: Context, project: ProjectRow) -> Iterator[Finding]:
    if project.error:
        yield Finding("state", project.error, "see the text; 'try again' on the dashboard once it is mended")
    for job in here.store.of(project.id).jobs.all():
        if job.state == JobState.FAILED:
            fix = "it is tried again by itself; the worker's log has the details"
            yield Finding(f"job {job.kind}", f"failed {job.failures} time(s): {job.error}", fix)


def is_private(url: str) -> bool:
    """Tell whether an address is one that Label Studio refuses by itself, as far as can be seen from here."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return "." not in host  # a name of a container network
    return any(not AllowedAddresses().allows(host, ip_address(str(one[4][0]).partition("%")[0])) for one in found)
