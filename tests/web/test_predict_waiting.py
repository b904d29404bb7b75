"""Requests that wait for a worker never take all threads."""

import threading
import time
from types import SimpleNamespace

from support.e2e_harness import wait_for

from backend.queueing.queues import Queueing
from backend.store import Store
from backend.web import predict

UNSEEN = {"project": "3.1700000000", "tasks": [{"id": 1}, {"id": 1000}]}


def test_only_so_many_requests_wait_for_a_worker(pages, filled: Store, private_redis: str, monkeypatch) -> None:
    queueing = Queueing(private_redis)
    queueing.connection.flushall()
    pages.extensions["pt4al"].open_queueing = lambda: queueing
    monkeypatch.setattr(predict, "WAIT_S", 1.0)
    asked, go_on, really_ask = [], threading.Event(), queueing.ask
    answers: list[tuple[int, list[float]]] = []

    def held(*args, **options):
        asked.append(args)
        assert go_on.wait(60)
        return really_ask(*args, **options)

    monkeypatch.setattr(queueing, "ask", held)

    def ask() -> None:
        answer = pages.test_client().post("/predict", json=UNSEEN)
        answers.append((answer.status_code, [round(one["score"], 3) for one in answer.json["results"]]))

    threads = [threading.Thread(target=ask) for _ in range(predict.WAITING + 4)]
    for thread in threads:
        thread.start()
    wait_for("those that may not wait", lambda: len(answers) == 4, 60, pause_s=0.01)
    assert len(asked) == predict.WAITING
    go_on.set()
    for thread in threads:
        thread.join()
    queueing.connection.close()
    assert len(asked) == predict.WAITING
    # Task 1 has its score from the store; of task 1000 nobody knows anything.
    assert answers == [(200, [0.8, 0.0])] * len(threads)


def test_no_request_has_a_worker_score_more_than_a_few_tasks(pages, filled: Store, monkeypatch) -> None:
    asked = []
    queueing = SimpleNamespace(ask=lambda *given, timeout_s: asked.append((given, timeout_s)))
    pages.extensions["pt4al"].open_queueing = lambda: queueing
    tasks = [{"id": 1}, *({"id": 1000 + i} for i in range(10_000))]
    before = time.time()
    answer = pages.test_client().post("/predict", json={**UNSEEN, "tasks": tasks})
    assert [round(one["score"], 3) for one in answer.json["results"]] == [0.8] + [0.0] * 10_000
    [((queue, _, _, task_ids, until), timeout_s)] = asked
    assert (queue, task_ids, timeout_s) == ("train", list(range(1000, 1064)), predict.WAIT_S)
    assert before + predict.WAIT_S <= until <= time.time() + predict.WAIT_S
