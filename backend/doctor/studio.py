"""Checks of each project in Label Studio: whether both reach each other, and whether our queue is served."""

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
from backend.studio.proxies import through
from backend.studio.types import MlBackend, NamedToken, ProjectInfo

CONNECT = "connect this backend in the project's settings under Model"
PRIVATE = (
    "Label Studio refuses private addresses by itself: set ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false "
    "where it runs, and start it again"
)
REACH = "start it, or set LABEL_STUDIO_URL to the address it has from here"
ANY_TOKEN = "none"  # a server that refuses it answers, at least
SOON = "the workers put it back within half a minute; if they do not, see their log"
CONNECTED = "CO"


def check_studio(settings: Settings) -> Iterator[Finding]:
    """Check LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, which need no connected project."""
    if settings.label_studio_url is None:
        return
    tokens = [NamedToken("LABEL_STUDIO_API_KEY", settings.label_studio_api_key or ANY_TOKEN)]
    studio = LabelStudio(settings.label_studio_url, tokens)
    try:
        studio.session.get("/api/projects/", page_size=1, include="id")
    except StudioRefused as error:
        if settings.label_studio_api_key is not None:
            yield Finding("LABEL_STUDIO_API_KEY", str(error), "create a token in Label Studio and set it to that")
            return
        yield Finding("LABEL_STUDIO_URL", f"{settings.label_studio_url} answers{through(settings.label_studio_url)}")
    except BackendError as error:
        yield Finding("LABEL_STUDIO_URL", str(error), REACH)
    else:
        how = through(settings.label_studio_url)
        yield Finding("LABEL_STUDIO_URL", f"{settings.label_studio_url} answers and takes LABEL_STUDIO_API_KEY{how}")


def check_projects(settings: Settings, store: Store, queueing: Queueing | None) -> Iterator[Finding]:
    """Check every connected project; of a server that does not answer, only the first."""
    projects = store.projects.all(active=True)
    if not projects:
        yield Finding("projects", f"none is connected yet; {CONNECT}. If Label Studio answers 403: {PRIVATE}")
    context = Context(settings, store, queueing or Queueing("unix:///nowhere"))
    down: Counter[str] = Counter()
    for project in projects:
        server = settings.label_studio_url or project.server
        if server in down:
            down[server] += 1
            continue
        for finding in _check_project(context, project):
            yield replace(finding, name=f"project {store.projects.name_of(project)}, {finding.name}")
            if finding.down:
                down[server] = 0
    for server, others in down.items():
        if others:
            yield Finding("projects", f"{others} more on {server} cannot be checked")


def _check_project(context: Context, project: ProjectRow) -> Iterator[Finding]:
    studio = studio_of(context, project)
    try:
        info = fetch_settings(studio, project)
        backends = studio.ml_backends()
    except StudioUnreachable as error:
        yield Finding("Label Studio", str(error), REACH, down=True)
        return
    except StudioRefused as error:
        yield Finding(
            "token", f"{error}{withheld_key(context, project)}", "create a token and set LABEL_STUDIO_API_KEY to it"
        )
        return
    except ProjectGone as error:
        yield Finding("project", str(error), "nothing has to be done: it becomes inactive by itself")
        return
    except BackendError as error:
        yield Finding("Label Studio", str(error), "see Label Studio's log")
        return
    yield Finding("Label Studio", f"{studio.base} answers and takes our token{through(studio.base)}")
    entries = own_entries(backends, project)
    if not entries:
        yield Finding("connection", "this backend is not among the project's models any more", CONNECT)
        return
    yield _reached(entries[0])
    if len(entries) > 1:
        text = f"{len(entries)} of the project's models have the address {entries[0].url}"
        yield Finding("connection", text, "delete all but one of them (Settings > Model)")
    if project.error is None:  # until the error is gone, the webhook is not restored
        yield _webhook(context, studio, project, entries[0])
    yield from _served(context, project, info)
    yield from _recorded_errors(context, project)


def _reached(entry: MlBackend) -> Finding:
    if entry.state == CONNECTED:
        return Finding("connection", f"Label Studio reaches {entry.url}")
    private = is_private(entry.url)
    fix = (
        f"{PRIVATE}; and see that {entry.url} answers from there"
        if private
        else f"see that {entry.url} answers from there"
    ) + ". A proxy in Label Studio's environment needs the host in its no_proxy"
    return Finding("connection", f"Label Studio does not reach {entry.url} (state '{entry.state}')", fix)


def _webhook(context: Context, studio: StudioProject, project: ProjectRow, entry: MlBackend) -> Finding:
    url = f"{entry.url.rstrip('/')}/webhook"
    fix = f"{SOON}. {PRIVATE}" if is_private(url) else SOON
    try:
        hooks = [hook for hook in studio.webhooks() if hook.url.rstrip("/") == url]
    except BackendError as error:
        return Finding("webhook", str(error), fix)
    if not hooks:
        return Finding("webhook", f"there is none to {url}: only the timer notices answers", fix)
    secret = context.store.projects.webhook_secret(project)
    if not any(hook.is_active and hook.headers.get(SECRET_HEADER) == secret for hook in hooks):
        return Finding("webhook", "it is switched off, or does not send our secret", fix)
    return Finding("webhook", f"sends events with its secret to {url}")


def _served(context: Context, project: ProjectRow, info: ProjectInfo) -> Iterator[Finding]:
    current = context.store.of(project.id).rounds.current()
    if current is None or current.live_at is None:
        yield Finding("queue", "no round is served yet")
        return
    if info.sampling != UNCERTAINTY_SAMPLING:
        yield Finding("sampling", f"it is '{info.sampling}', so that images come in another order than ours", SOON)
    if info.model_version != current.model_version:
        yield Finding("version", f"it is '{info.model_version}', ours is '{current.model_version}'", SOON)
    if info.sampling == UNCERTAINTY_SAMPLING and info.model_version == current.model_version:
        yield Finding("queue", f"round {current.number + 1} is served as {current.model_version}")


def _recorded_errors(context: Context, project: ProjectRow) -> Iterator[Finding]:
    if project.error:
        yield Finding("state", project.error, "see the text; 'try again' on the dashboard once it is fixed")
    for job in context.store.of(project.id).jobs.all():
        if job.state == JobState.FAILED:
            fix = "it is tried again by itself; the worker's log has the details"
            yield Finding(f"job {job.kind}", f"failed {job.failures} time(s): {job.error}", fix)


def is_private(url: str) -> bool:
    """Return whether Label Studio refuses the address by default, as far as its name resolves on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        addresses = socket.getaddrinfo(host, None)
    except OSError:
        return "." not in host  # a name of a container network
    return any(
        not AllowedAddresses().allows(host, ip_address(str(entry[4][0]).partition("%")[0])) for entry in addresses
    )
