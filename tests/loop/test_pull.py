"""Reading changes, against a fake Label Studio: settings, answers, deletions, and what comes in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loop_project import CONFIG, LoopProject, answer_of

from backend.errors import ProjectGone
from backend.loop.facts import Observation
from backend.loop.steps.pull import pull_changes, read_changes, reconcile
from backend.store import Answer, ImageState
from backend.studio import tasks


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProject]:
    """A project of five tasks, of which nothing is read yet."""
    made = LoopProject(tmp_path, monkeypatch)
    made.add(5)
    made.connect()
    yield made
    made.store.close()


def read(loop: LoopProject) -> Observation:
    return read_changes(loop.store.of(loop.id), loop.studio)


def answers(loop: LoopProject) -> dict[int, tuple[str, object]]:
    """Return what the store has as answer and target, by task."""
    return {task: loop.stored(task) for task in loop.truth}


def test_read_changes_reads_tasks_and_what_label_studio_serves(loop: LoopProject) -> None:
    observed = read(loop)
    assert (observed.model_version, observed.sampling) == ("PT4AL", "Sequential sampling")
    assert (observed.tasks, observed.unread, observed.count_differs) == (5, False, False)
    assert loop.store.of(loop.id).tasks.counts(0).tasks == 5
    assert loop.row.title == "loop"


def test_an_answer_its_change_and_its_deletion_are_read(loop: LoopProject) -> None:
    first = min(loop.truth)
    given = loop.person.annotate(first, answer_of("left"))
    read(loop)
    assert answers(loop)[first] == (Answer.LABELED, "left")
    loop.person.change_annotation(given, result=answer_of("right"))
    read(loop)
    assert answers(loop)[first] == (Answer.LABELED, "right")
    loop.person.delete_annotation(given)
    read(loop)
    assert answers(loop)[first] == (Answer.NONE, None)


def test_skips_ties_and_unusable_answers_have_no_target(loop: LoopProject) -> None:
    skipped, tied, unusable, *_ = sorted(loop.truth)
    loop.person.skip(skipped)
    loop.person.annotate(tied, answer_of("left"))
    loop.server.person("second").annotate(tied, answer_of("right"))
    loop.person.annotate(unusable, answer_of("above"))
    read(loop)
    found = answers(loop)
    assert [found[task] for task in (skipped, tied, unusable)] == [
        (Answer.SKIPPED, None),
        (Answer.TIE, None),
        (Answer.UNUSABLE, None),
    ]


def test_old_changes_are_not_read_again(loop: LoopProject) -> None:
    read(loop)
    loop.server.clock.advance(2 * tasks.OVERLAP.total_seconds())
    read(loop)
    cursor = loop.row.cursor
    assert list(loop.studio.tasks.changed(cursor)) == []
    loop.person.annotate(max(loop.truth), answer_of("left"))
    assert [task.id for page in loop.studio.tasks.changed(cursor) for task in page.tasks] == [max(loop.truth)]


def test_a_change_that_becomes_visible_late_is_read(loop: LoopProject) -> None:
    """A save takes its time stamp before it waits for the database."""
    first, second, *_ = sorted(loop.truth)
    late = loop.server.clock.stamp()
    loop.person.annotate(second, answer_of("left"))
    read(loop)
    loop.person.annotate(first, answer_of("right"))
    loop.server.projects[loop.studio.id].tasks[first].updated_at = late
    read(loop)
    assert answers(loop)[first] == (Answer.LABELED, "right")


def test_more_pages_than_advance_reads_are_left_to_the_sync_job(
    loop: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PAGE", 1)
    assert read(loop).unread
    assert loop.store.of(loop.id).tasks.counts(0).tasks < 5
    assert pull_changes(loop.store.of(loop.id), loop.studio)
    assert loop.store.of(loop.id).tasks.counts(0).tasks == 5


def test_deleted_tasks_show_in_the_count_and_reconcile_finds_them(loop: LoopProject) -> None:
    read(loop)
    gone = min(loop.truth)
    loop.person.delete_task(gone)
    assert read(loop).count_differs
    reconcile(loop.store.of(loop.id), loop.studio)
    assert not read(loop).count_differs
    assert loop.store.of(loop.id).tasks.known() == set(loop.truth) - {gone}


def test_reconcile_reads_tasks_that_the_cursor_has_missed(loop: LoopProject) -> None:
    read(loop)
    (missed,) = loop.add(1)
    loop.person.annotate(missed, answer_of("left"))
    reconcile(loop.store.of(loop.id), loop.studio)
    assert answers(loop)[missed] == (Answer.LABELED, "left")


def test_a_task_that_comes_between_two_requests_is_no_deletion(loop: LoopProject) -> None:
    read(loop)
    arrivals = iter([True])

    def import_one(request: str) -> None:
        if request.startswith("GET /api/projects") and next(arrivals, False):
            loop.add(1)

    loop.server.after = import_one  # the settings still count five, the tasks are six
    assert not read(loop).count_differs
    assert loop.store.of(loop.id).tasks.counts(0).tasks == 6


def test_another_label_configuration_has_all_answers_read_again(loop: LoopProject) -> None:
    first = min(loop.truth)
    loop.person.annotate(first, answer_of("above"))
    read(loop)
    loop.server.clock.advance(100)
    read(loop)
    assert answers(loop)[first] == (Answer.UNUSABLE, None)
    wider = CONFIG.replace("</Choices>", '<Choice value="above"/></Choices>')
    loop.person.change_project(loop.studio.id, label_config=wider)
    read(loop)
    assert answers(loop)[first] == (Answer.LABELED, "above")


def test_a_task_without_an_image_is_broken_and_says_why(loop: LoopProject) -> None:
    first = min(loop.truth)
    loop.person.change_task(first, {"text": "no image"})
    read(loop)
    assert loop.store.of(loop.id).tasks.counts(0).broken == 1
    assert loop.state_of(first) == ImageState.BROKEN


@pytest.mark.parametrize("replaced", [False, True])
def test_a_project_that_is_gone_or_another_one_is_said(loop: LoopProject, replaced: bool) -> None:
    project = loop.server.projects[loop.studio.id]
    loop.person.delete_project(loop.studio.id)
    if replaced:
        loop.server.clock.advance(10)
        project.created_at = loop.server.clock.stamp()
        loop.server.projects[loop.studio.id] = project
    with pytest.raises(ProjectGone, match="another one has its id" if replaced else "not in Label Studio any more"):
        read(loop)
