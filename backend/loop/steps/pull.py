"""Reading what has changed in Label Studio: project settings, tasks, answers, deletions."""

import math
import time
from collections.abc import Iterable, Mapping

from backend.errors import ConfigError, ImageError, ProjectError, ProjectGone, StudioMissing
from backend.items.reference import image_ref
from backend.labeling.answers import details_of, summarize
from backend.labeling.base import Labeling
from backend.labeling.project import labeling_of
from backend.loop.facts import Observation
from backend.loop.steps.record import BATCH_FIELD, LOSS_FIELD
from backend.store import ProjectRow, ProjectStore
from backend.store.tables import Answer, Refused
from backend.store.task_changes import TaskChange
from backend.studio.project import StudioProject
from backend.studio.types import ProjectInfo, TaskRecord
from model.problems import problem

INLINE_PAGES = 3  # that ``advance`` reads by itself, the first of them small; more is a sync job's work


def read_changes(store: ProjectStore, studio: StudioProject) -> Observation:
    """Read the project's settings and the first pages of changes into the store.

    Raises:
        ProjectGone: the project is not there any more, or another one has taken its id.
        ProjectError: its label configuration cannot be worked on.
    """
    row = store.row()
    info = fetch_settings(studio, row)
    store.deactivate_replaced()
    note_control(store)  # before other labels are set up
    if info.title != row.title:
        store.set(title=info.title)
    if info.label_config != row.label_config:
        # Which answers are usable depends on the labels: all of them are read again.
        store.set(label_config=info.label_config, cursor=None)
    complete = pull_changes(store, studio, INLINE_PAGES)
    if complete and info.task_number != store.tasks.counts(0).tasks:
        # Perhaps tasks came between the two requests: only a difference that stays means deletions.
        info = fetch_settings(studio, row)
        complete = pull_changes(store, studio, INLINE_PAGES)
    note_control(store)
    return Observation(
        model_version=info.model_version,
        sampling=info.sampling,
        tasks=info.task_number,
        unread=not complete,
        count_differs=complete and info.task_number != store.tasks.counts(0).tasks,
        training_requested=row.training_requested,
    )


def note_control(store: ProjectStore) -> None:
    """Note the control tag that a project learns once it has labels, so that it stays with that one.

    A model that is trained notes its own: what was answered by mistake, while the question was away, changes nothing.
    """
    row = store.row()
    if row.control:
        return
    if row.control is not None:
        store.set(control=None, cursor=None)
    if store.tasks.counts(0).labeled:
        try:
            store.set(control=labeling_of(row).control)
        except (ProjectError, ConfigError):
            return  # the labels are those of a configuration that cannot be read any more


def fetch_settings(studio: StudioProject, project: ProjectRow) -> ProjectInfo:
    """Read the project's settings.

    Raises:
        ProjectGone: it is not there any more, or another one has taken its id.
    """
    try:
        info = studio.settings()
    except StudioMissing as error:
        raise ProjectGone(f"project {project.studio_project_id} is not in Label Studio any more") from error
    if str(info.created_ts) != project.created_ts:
        raise ProjectGone(f"project {project.studio_project_id} was deleted, and another one has its id now")
    return info


def pull_changes(
    store: ProjectStore, studio: StudioProject, max_pages: int | None = None, seconds: float = math.inf
) -> bool:
    """Read tasks that changed since the cursor into the store; return False if there may be more to read.

    That is so after ``max_pages``, after some seconds, and when the labels were changed meanwhile.
    """
    until = time.monotonic() + seconds
    row = store.row()
    labeling = labeling_of(row)
    quality = problem(labeling.problem).quality
    for number, page in enumerate(studio.tasks.changed(row.cursor)):
        if max_pages is not None and number >= max_pages:
            return False
        store.tasks.apply(_changes(page.tasks, labeling), quality)
        if not store.read_to(page.cursor, row) or time.monotonic() > until:
            return False
    return True


def reconcile(store: ProjectStore, studio: StudioProject) -> None:
    """Find tasks that were deleted, or that the cursor has missed, by their ids alone."""
    labeling = labeling_of(store.row())
    # What is known is read first: tasks that another process learns of while the ids are listed are not missing.
    known = store.tasks.known()
    present = set(studio.tasks.ids())
    store.tasks.mark_gone(sorted(known - present))
    if unknown := sorted(present - known):
        changes = _changes(studio.tasks.by_id(unknown), labeling)
        store.tasks.apply(changes, problem(labeling.problem).quality)


def _changes(tasks: Iterable[TaskRecord], labeling: Labeling) -> list[TaskChange]:
    return [_change(task, labeling) for task in tasks]


def _change(task: TaskRecord, labeling: Labeling) -> TaskChange:
    given = summarize(task.annotations, labeling, problem(labeling.problem))
    image, reason = None, None
    try:
        image = image_ref(task.data, labeling.data_key)
    except ImageError as error:
        reason = str(error)
    details = details_of(task.annotations, labeling)
    return TaskChange(
        task_id=task.id,
        image=image,
        reason=reason,
        answer=Answer(given.kind),
        target=given.target,
        refusal=Refused(details.refusal) if given.kind == "unusable" and details.refusal else None,
        accepted=given.kind == "labeled" and details.accepted,
        left_out=given.left_out,
        orphaned=details.orphaned,
        bare=isinstance(task.data, Mapping) and not task.data.keys() >= {LOSS_FIELD, BATCH_FIELD},
    )
