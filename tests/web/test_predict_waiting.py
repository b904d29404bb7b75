"""Requests that wait for a worker never take all threads."""

import threading
import time

from backend.queueing import Queueing
from backend.store import Store
from backend.web import predict

UNSEEN = {"project": "3.1700000000", "tasks": [{"id": 1}, {"id": 1000}]}


def test_only_so_many_requests_wait_for_a_worker(pages, filled: Store, private_redis: str, monkeypatch) -> None:
    queueing = Queueing(private_redis)
    queueing.connection.flushall()
    pages.extensions["pt4al"].open_queueing = lambda: queueing
    monkeypatch.setattr(predict, "WAIT_S", 2.0)
    answers: list[tuple[float, int, list[float]]] = []

    def ask() -> None:
        begun = time.monotonic()
        answer = pages.test_client().post("/predict", json=UNSEEN)
        scores = [round(one["score"], 3) for one in answer.json["results"]]
        answers.append((time.monotonic() - begun, answer.status_code, scores))

    threads = [threading.Thread(target=ask) for _ in range(predict.WAITING + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queueing.connection.close()
    # Task 1 has its score from the store; of task 1000 nobody knows anything.
    assert [(code, scores) for _, code, scores in answers] == [(200, [0.8, 0.0])] * len(threads)
    waited = [seconds > 1.5 for seconds, *_ in answers]
    assert sum(waited) == predict.WAITING
    assert not any(waited[:4])
