"""A project that several Label Studios have: whether one is a copy of the other, or the project has moved.

Rows of other servers are never judged by what a caller says: their own server is asked. It either has the project with
us among its models, then both go on; or it is gone for good, then what was learned goes along to the new server; or it
is the same server by another name, which shows in its webhook as soon as we have written a new secret there.
"""

import logging
import time
from enum import StrEnum

from backend.config import SECRET_HEADER
from backend.errors import BackendError, Disconnected, ProjectGone, StudioRefused, Undecided
from backend.loop.context import Context, studio_of
from backend.loop.facts import JobKind
from backend.loop.steps.maintain_connection import CONNECTING_S, note_entry, own_entries
from backend.loop.steps.pull import fetch_settings
from backend.project_files import Files
from backend.store import ProjectRow
from backend.store.jobs import is_alive
from backend.store.siblings import Place

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0  # for which a server may be silent before its projects count as moved: longer than a restart
WORKS_WITH_STUDIO = frozenset({JobKind.SYNC, JobKind.EMBED, JobKind.RECORD, JobKind.AUTOLABEL})


class Found(StrEnum):
    """What the server of a project says of it."""

    HERE = "here"  # it is there, with us among its models
    SAME = "same"  # it is the server that asks, by another name
    GONE = "gone"  # it is not there any more, or not with us
    SILENT = "silent"  # nobody answers
    REFUSED = "refused"  # it takes none of our tokens


def is_settled(context: Context, project: ProjectRow) -> bool:
    """Tell whether a project may be worked on; where other servers have it as well, find out what became of it.

    Raises:
        Undecided: that cannot be told now; with a sentence for people.
        ProjectGone, Disconnected, StudioUnreachable, StudioRefused: of the project's own server.
    """
    if context.settings.label_studio_url is not None:
        return _is_the_one(context, project)
    if project.take_from is not None:
        return _take_history(context, project)
    match project.place:
        case Place.ASKED:
            raise Undecided(project.place_text or "Say on its page where this project's history belongs.")
        case Place.NEW | Place.AWAY:
            return _settle(context, project)
        case _:
            return True


def may_wake(context: Context, project: ProjectRow) -> bool:
    """Tell whether a project at rest may be looked at again, as it is not known to be a second name of another's."""
    if context.settings.label_studio_url is not None:
        return _rightful(context, project).id == project.id
    return project.place != Place.SAME


def place_on_waking(context: Context, project: ProjectRow) -> Place | None:
    """Return what has to be found out about a project at rest that is there again."""
    others = context.store.projects.siblings(project)
    return Place(project.place) if project.place else Place.NEW if any(row.active for row in others) else None


def _is_the_one(context: Context, project: ProjectRow) -> bool:
    """Tell whether a project is the one that LABEL_STUDIO_URL leads to: no other server is ever called."""
    one = _rightful(context, project)
    if one.id == project.id:
        if project.place is not None:
            context.store.projects.set(project.id, place=None, take_from=None)
        return True
    text = (
        f"LABEL_STUDIO_URL is {context.settings.label_studio_url}, where this project is worked on as "
        f"'{context.store.projects.name_of(one)}'; {project.server} is not called any more."
    )
    logger.info("project %s of %s rests: %s", project.studio_project_id, project.server, text)
    context.store.projects.set(project.id, active=False)
    raise Undecided(text)


def _rightful(context: Context, project: ProjectRow) -> ProjectRow:
    """Return the row of a project that LABEL_STUDIO_URL leads to, else the one that was connected last."""
    rows = [project, *context.store.projects.siblings(project)]
    there = [row for row in rows if row.server == context.settings.label_studio_url]
    return there[0] if there else max(rows, key=lambda row: (row.active, row.connected_at, row.id))


def _settle(context: Context, project: ProjectRow) -> bool:
    projects = context.store.projects
    others = projects.siblings(project)
    if others and not _is_confirmed(context, project):
        return False
    found = _ask_others(context, project, others)
    if same := [row for row in others if found[row.id][0] == Found.SAME]:
        return _join(context, project, same[0])
    here = [row for row in others if found[row.id][0] == Found.HERE]
    if project.place == Place.AWAY and here:
        return _return(context, project, here[0])
    former = _former(context, project, others, here)
    if former is not None and not projects.has_rounds(project.id):
        return _move(context, project, former, *found[former.id])
    _note(context, project, None)
    for row in here:
        logger.info("project %s is on %s and on %s: both go on", project.studio_project_id, row.server, project.server)
        _note(context, project, _both(row, project))
        if row.place not in (Place.ASKED, Place.AWAY):  # what becomes of these is not settled by that
            _note(context, row, _both(project, row))
    return True


def _former(
    context: Context, project: ProjectRow, others: list[ProjectRow], here: list[ProjectRow]
) -> ProjectRow | None:
    """Return the row that a project may have moved from: with a history, and on a server that has it no more.

    It is the one that the server's data were copied from; other copies may live beside both.
    """
    gone = [row for row in others if row not in here and context.store.projects.has_rounds(row.id)]
    origin = context.store.of(project.id).row().origin
    copied = [row for row in gone if row.id == origin]
    return next(iter(copied or ([] if here else gone)), None)


def _is_confirmed(context: Context, project: ProjectRow) -> bool:
    """Tell whether a project's own server has it with us among its models; raises as ``is_settled`` does."""
    studio = studio_of(context, project)
    fetch_settings(studio, project)
    entries = own_entries(studio.ml_backends(), project)
    if not entries:
        if time.time() - project.connected_at > CONNECTING_S:
            raise Disconnected("This backend was disconnected in Label Studio; connect it again to go on.")
        return False  # it calls /setup before it lists the model; the timer comes again
    note_entry(context.store.of(project.id), entries)
    return True


def _ask_others(context: Context, project: ProjectRow, others: list[ProjectRow]) -> dict[int, tuple[Found, str]]:
    """Ask the servers of other rows what they have; return that and the reason by our id."""
    if not others:
        return {}
    projects, studio = context.store.projects, studio_of(context, project)
    # A copy has the secret of the one that it is a copy of; only one server can have the new one.
    copied = {hook.headers.get(SECRET_HEADER) for hook in studio.webhooks()}
    origin = next((row.id for row in others if projects.webhook_secret(row) in copied - {None}), None)
    if origin is not None:
        projects.set(project.id, origin=origin)
    secret = projects.renew_secret(project.id)
    entries = own_entries(studio.ml_backends(), context.store.of(project.id).row())
    url = entries[0].url if entries else project.backend_url or ""
    studio.ensure_webhook(f"{url.rstrip('/')}/webhook", {SECRET_HEADER: secret})
    return {row.id: _ask(context, row, secret) for row in others}


def _ask(context: Context, row: ProjectRow, secret: str) -> tuple[Found, str]:
    studio = studio_of(context, row)
    try:
        fetch_settings(studio, row)
        if any(hook.headers.get(SECRET_HEADER) == secret for hook in studio.webhooks()):
            return Found.SAME, ""
        if own_entries(studio.ml_backends(), row):
            return Found.HERE, ""
        return Found.GONE, f"this backend is not among its models any more on {row.server}"
    except ProjectGone as error:
        return Found.GONE, str(error)
    except StudioRefused as error:
        return Found.REFUSED, str(error)
    except BackendError as error:
        return Found.SILENT, str(error)


def _join(context: Context, project: ProjectRow, same: ProjectRow) -> bool:
    """Have one row remain of two that lead to the same server: the one with a history."""
    projects = context.store.projects
    if projects.has_rounds(project.id) or project.place == Place.AWAY:
        text = f"{project.server} is another name of {same.server}, where the work goes on."
        projects.set(project.id, active=False, place=Place.SAME, place_text=text)
        kept = same.id
    else:
        text = f"Label Studio was known as {same.server} before; it is {project.server} now."
        projects.take_address(same.id, of=project.id)
        Files.of(context.settings.data_dir, project.id).delete()
        projects.set(same.id, place_text=text)
        kept = same.id
    logger.info("project %s: %s", project.studio_project_id, text)
    context.queueing.wake(kept)
    return False


def _move(context: Context, project: ProjectRow, former: ProjectRow, found: Found, why: str) -> bool:
    """Have the history of a row whose server is gone come to the new server, which has none yet."""
    is_copy = context.store.of(project.id).row().origin == former.id
    if found == Found.REFUSED or not is_copy:
        reason = "which does not take our token" if is_copy else "and nothing shows that this is a copy of that"
        text = (
            f"This project is, or was, on {former.server} as well, {reason}: nobody can tell whether it has moved "
            "here. Say so below."
        )
        logger.warning("project %s of %s: %s", project.studio_project_id, project.server, text)
        context.store.projects.set(project.id, place=Place.ASKED, place_text=text)
        raise Undecided(text)
    if found == Found.SILENT and time.time() - project.connected_at < PATIENCE_S:
        raise Undecided(
            f"{former.server}, where this project was, does not answer ({why}). Within a minute it counts as moved "
            "here, and its history comes along."
        )
    _exchange(context, project, former)
    said = why if found == Found.GONE else f"{former.server} did not answer any more"
    text = f"This project has moved here from {former.server} with its history, holdout and files ({said})."
    logger.info("project %s has moved from %s to %s: %s", former.studio_project_id, former.server, project.server, why)
    context.store.projects.set(former.id, place_text=text, moved_at=time.time())
    context.store.projects.set(
        project.id,
        active=False,
        place=Place.AWAY,
        place_text=f"This project has moved to {project.server} ({said}).",
    )
    context.queueing.wake(former.id)
    return False


def _return(context: Context, project: ProjectRow, other: ProjectRow) -> bool:
    """Settle what becomes of a project whose server was silent, and whose history has gone elsewhere meanwhile."""
    projects = context.store.projects
    if other.moved_at is not None and not projects.has_changed_since(other.id, other.moved_at):
        _exchange(context, project, other)
        logger.info("project %s is on %s again", project.studio_project_id, project.server)
        projects.set(other.id, moved_at=None, place_text=_both(other, project))
        projects.set(project.id, active=True, place_text=_both(project, other))
        context.queueing.wake(other.id)
        return False
    text = (
        f"This project is on {other.server} as well: its history went there while {project.server} did not answer, and "
        "both have it now. Nothing is done here until you say below where the history belongs."
    )
    logger.warning("project %s of %s: %s", project.studio_project_id, project.server, text)
    projects.set(project.id, place=Place.ASKED, place_text=text)
    raise Undecided(text)


def _take_history(context: Context, project: ProjectRow) -> bool:
    """Have the history of another row come here, as a person has said, and that of this one go there."""
    projects, other = context.store.projects, context.store.projects.get(project.take_from or 0)
    if other is None or other.id not in {row.id for row in projects.siblings(project)}:
        projects.set(project.id, take_from=None)
        return True
    _exchange(context, project, other)
    logger.info(
        "project %s: the history of %s is that of %s now, as asked",
        project.studio_project_id,
        other.server,
        project.server,
    )
    projects.set(other.id, place_text=f"Its history came from {other.server}, as asked.", active=True)
    projects.set(project.id, place_text=f"Its history went to {project.server}, as asked.")
    context.queueing.wake(other.id)
    return False


def _exchange(context: Context, project: ProjectRow, other: ProjectRow) -> None:
    """Exchange the addresses of two rows; raises Undecided while a job works with one of their servers."""
    with context.queueing.lock(other.id) as held:
        now = time.time()
        jobs = [job for row in (project, other) for job in context.store.of(row.id).jobs.all()]
        if not held or any(JobKind(job.kind) in WORKS_WITH_STUDIO and is_alive(job, now) for job in jobs):
            raise Undecided(f"The history of {other.server} comes here as soon as the work with it is done.")
        context.store.projects.exchange(project.id, other.id)
        for row in (project, other):
            rounds = context.store.of(row.id).rounds
            if (current := rounds.current()) is not None:
                rounds.mark_unconfirmed(current.number)


def _note(context: Context, project: ProjectRow, text: str | None) -> None:
    context.store.projects.set(project.id, place=None, place_text=text)


def _both(other: ProjectRow, project: ProjectRow) -> str:
    return f"{other.server} has the same project, as a copy of Label Studio has: each goes on by itself."
