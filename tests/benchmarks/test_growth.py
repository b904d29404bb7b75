import pytest

from backend.status.status import read_status
from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from benchmarks import growth


def test_the_event_that_is_timed_has_rounds_and_labels_to_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "ASKED", 20)
    pool = range(1, 201)
    store.of(1).tasks.apply([TaskChange(i, f"{i}.png", None, Answer.NONE, None) for i in pool])
    store.of(1).tasks.images_fetched({i: i - 1 for i in pool})
    growth.serve_rounds(store, 1)
    status = read_status(store, store.projects.get(1))
    assert (status.tasks.labeled, status.tasks.trainable, status.tasks.ok) == (110, 99, 200)
    assert (status.live.number, status.asks.answered, status.asks.waiting, status.asks.reserve) == (5, 10, 10, 20)
    assert len(status.task_ids) == 10
    assert [row.holdout_size for row in status.rounds if row.has_model] == [2, 4, 6, 8, 10]
    assert status.forecast is not None
