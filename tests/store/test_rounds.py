import pytest

from backend.store import Answer, AskRole, AskState, ProjectRow, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange

ASKS = [
    Ask(3, 0.1, AskRole.QUERY, "cat", 0.5),
    Ask(1, 0.2, AskRole.HOLDOUT),
    Ask(4, 0.3, AskRole.QUERY),
    Ask(2, 0.4, AskRole.RESERVE),
    Ask(5, 0.5, AskRole.RESERVE),
]


@pytest.fixture
def rounds(store: Store, project: ProjectRow):
    store.of(project.id).tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in range(1, 7)])
    store.of(project.id).tasks.images_fetched({i: i for i in range(1, 7)})
    store.of(project.id).rounds.plan(0, "pt4al-r000", ASKS)
    return store.of(project.id).rounds


def answer(store: Store, key: int, *task_ids: int, kind: Answer = Answer.LABELED) -> None:
    store.of(key).tasks.apply([TaskChange(i, "x", None, kind, "cat") for i in task_ids])


def test_plan_twice_keeps_the_first(rounds, project: ProjectRow) -> None:
    assert not rounds.plan(0, "pt4al-r000", ASKS[:1])
    assert rounds.current().asked == 3
    assert len(rounds.asks(0, states=list(AskState))) == 5


def test_counts_follow_posting_and_answers(rounds, store: Store, project: ProjectRow) -> None:
    counts = rounds.counts(0)
    assert (counts.unposted, counts.waiting, counts.answered, counts.reserve) == (3, 0, 0, 2)
    rounds.mark(0, [3, 1, 4], AskState.POSTED)
    answer(store, project.id, 3)
    answer(store, project.id, 1, kind=Answer.SKIPPED)
    counts = rounds.counts(0)
    assert (counts.unposted, counts.waiting, counts.answered, counts.reserve) == (0, 1, 2, 2)


def test_an_answered_reserve_that_was_never_posted_does_not_count(rounds, store: Store, project: ProjectRow) -> None:
    answer(store, project.id, 2)
    counts = rounds.counts(0)
    assert (counts.answered, counts.reserve) == (0, 1)


def test_deleted_tasks_leave_queue_and_reserve(rounds, store: Store, project: ProjectRow) -> None:
    rounds.mark(0, [3, 1, 4], AskState.POSTED)
    store.of(project.id).tasks.mark_gone([3, 4, 5])
    assert [ask.task_id for ask in rounds.queue(0)] == [1]
    assert [ask.task_id for ask in rounds.next_reserve(0, 9)] == [2]


def test_queue_is_in_serving_order(rounds, project: ProjectRow) -> None:
    rounds.mark(0, [4, 3, 1], AskState.POSTED)
    assert [ask.task_id for ask in rounds.queue(0)] == [3, 1, 4]


def test_sent_but_unnoted_predictions_are_doubtful(rounds, project: ProjectRow) -> None:
    rounds.mark(0, [3, 2], AskState.POSTING)
    assert rounds.counts(0).doubtful == 2


def test_holdout_stays_if_answered_and_is_released_if_not(rounds, store: Store, project: ProjectRow) -> None:
    answer(store, project.id, 1)
    rounds.plan(1, "pt4al-r001", [Ask(5, 0.1, AskRole.HOLDOUT)])
    rounds.plan(2, "pt4al-r002", [Ask(6, 0.1, AskRole.QUERY)])
    pool = store.of(project.id).tasks.pool(7)
    assert pool.task_id[pool.holdout].tolist() == [1]


def test_extend_reserve_appends_what_is_not_asked_yet(rounds, project: ProjectRow) -> None:
    rounds.extend_reserve(0, [Ask(5, 0.6, AskRole.RESERVE), Ask(6, 0.7, AskRole.RESERVE)])
    assert [ask.task_id for ask in rounds.next_reserve(0, 9)] == [2, 5, 6]


def test_to_clean_lists_older_rounds_once_a_newer_one_is_live(rounds, project: ProjectRow) -> None:
    rounds.go_live(0)
    rounds.plan(1, "pt4al-r001", [Ask(6, 0.1, AskRole.QUERY)])
    assert rounds.to_clean() == []
    rounds.go_live(1)
    assert [row.number for row in rounds.to_clean()] == [0]
    rounds.set(0, cleaned=True)
    assert rounds.to_clean() == []


def test_forget_removes_rounds_and_holdout(rounds, store: Store, project: ProjectRow) -> None:
    rounds.forget()
    assert rounds.current() is None
    assert not store.of(project.id).tasks.pool(7).holdout.any()


def test_an_image_that_was_answered_while_its_round_was_planned_counts_as_predicted(store: Store, project) -> None:
    own = store.of(project.id)
    own.tasks.apply([TaskChange(i, "x", None, Answer.NONE, None) for i in (1, 2)])
    own.tasks.images_fetched({1: 0, 2: 1})
    own.tasks.apply([TaskChange(1, "x", None, Answer.LABELED, "cat")])
    own.rounds.plan(1, "r1", [Ask(1, 0.1, AskRole.QUERY, "cat", 0.9), Ask(2, 0.2, AskRole.QUERY, "dog", 0.8)])
    asks = own.rounds.asks(1, states=list(AskState))
    assert [(ask.task_id, ask.quality) for ask in asks] == [(1, 1.0), (2, None)]
