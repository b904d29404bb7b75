"""Reading what has changed in Label Studio: project settings, tasks, answers, deletions."""

from collections.abc import Iterable

from backend.errors import ImageError, ProjectGone, StudioMissing
from backend.labeling.choices import aggregate, image_ref
from backend.loop.context import Work
from backend.loop.facts import Observation
from backend.store import ProjectRow
from backend.store.tables import Answer
from backend.store.task_changes import TaskChange, exact_match
from backend.studio.project import StudioProject
from backend.studio.types import ProjectInfo, TaskRecord

INLINE_IDS = 10_000  # tasks whose ids ``advance`` lists by itself
INLINE_PAGES = 2  # what ``advance`` reads by itself; more is a sync job's work


def read_changes(work: Work) -> Observation:
    """Read the project's settings and the first pages of changes into the store.

    Raises:
        ProjectGone: the project is not there any more, or another one has taken its id.
    """
    training_requested = work.project.training_requested
    info = fetch_settings(work.studio, work.project)
    work.store.projects.deactivate_replaced(work.key)
    if info.title != work.project.title:
        work.store.projects.set(work.key, title=info.title)
    if info.label_config != work.project.label_config:
        # Which answers are usable depends on the labels: all of them are read again.
        work.store.projects.set(work.key, label_config=info.label_config, cursor=None)
        work.reload()
    complete = pull_changes(work, max_pages=INLINE_PAGES)
    if complete and info.task_number != work.project_store.tasks.counts(0).tasks:
        # Perhaps tasks came between the two requests: only a difference that stays means deletions.
        info = fetch_settings(work.studio, work.project)
        complete = pull_changes(work, max_pages=INLINE_PAGES)
        if complete and info.task_number != work.project_store.tasks.counts(0).tasks:
            # Listing the ids takes 0.2 s a thousand: where that is long, it is the sync job's work.
            complete = info.task_number <= INLINE_IDS
            if complete:
                reconcile(work)
    return Observation(info.model_version, info.sampling, not complete, training_requested)


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


def pull_changes(work: Work, max_pages: int | None = None) -> bool:
    """Read tasks that changed since the cursor into the store; False if there may be more to read.

    That is so after ``max_pages``, and when the labels were changed meanwhile.
    """
    config = work.project.label_config
    for number, page in enumerate(work.studio.tasks.changed(work.project.cursor)):
        if max_pages is not None and number >= max_pages:
            return False
        work.project_store.tasks.apply(_changes(work, page.tasks), exact_match)
        if not work.store.projects.read_to(work.key, page.cursor, config):
            work.reload()
            return False
        work.reload()
    return True


def reconcile(work: Work) -> None:
    """Find tasks that were deleted, or that the cursor has missed, by their ids alone."""
    # What is known is read first: tasks that another process learns of while the ids are listed are not missing.
    known = work.project_store.tasks.known()
    present = set(work.studio.tasks.ids())
    work.project_store.tasks.mark_gone(sorted(known - present))
    if unknown := sorted(present - known):
        work.project_store.tasks.apply(_changes(work, work.studio.tasks.by_id(unknown)), exact_match)


def _changes(work: Work, page: Iterable[TaskRecord]) -> list[TaskChange]:
    return [_change(work, task) for task in page]


def _change(work: Work, task: TaskRecord) -> TaskChange:
    given = aggregate(task.annotations, work.spec)
    image, reason = None, None
    try:
        image = image_ref(task.data, work.spec.data_key)
    except ImageError as error:
        reason = str(error)
    return TaskChange(task.id, image, reason, Answer(given.kind), given.label)
