"""The way of a project, from connecting to the next round's queue, on a real Label Studio."""

import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from support.e2e_harness import wait_for

from backend.studio.project import LabelStudio, StudioProject
from backend.studio.types import NamedToken, TaskRecord

pytestmark = pytest.mark.e2e

K, ROUNDS, IMAGES = 20, 5, 200


def scores_of(project: StudioProject, version: str) -> dict[int, float | None]:
    return {one.task: one.score for one in project.predictions.stored(version)}


@pytest.fixture(scope="module")
def studio(label_studio) -> LabelStudio:
    return LabelStudio(label_studio.url, [NamedToken("test", label_studio.token)])


def all_tasks(studio: LabelStudio, project: int) -> dict[int, TaskRecord]:
    return {task.id: task for page in studio.project(project).tasks.changed(None) for task in page.tasks}


def recorded(studio: LabelStudio, project: int) -> dict[int, tuple[float, float]]:
    """Loss and batch of every task, as Label Studio has them."""
    return {
        task_id: (task.data["pretext_loss"], task.data["pretext_batch"])
        for task_id, task in all_tasks(studio, project).items()
        if "pretext_loss" in task.data and "pretext_batch" in task.data
    }


def is_queue(version: str) -> bool:
    return version.startswith("pt4al-r") and not version.endswith("-pool")


def project_files(backend, project: int) -> Path:
    """The folder of the newest project with that id; the store numbers projects as they connect."""
    store = backend.store()
    key = store.projects.find(project).id
    store.close()
    return backend.data_dir / "projects" / str(key)


def pool_of(backend, project: int) -> Any:
    store = backend.store()
    key = store.projects.find(project).id
    view = store.of(key).tasks.pool(store.of(key).tasks.pool_size())
    store.close()
    return view


def posted(backend, project: int, number: int) -> set[int]:
    """The tasks of a round whose predictions were sent: queue and reserve."""
    from backend.store import AskState

    store = backend.store()
    asks = store.of(store.projects.find(project).id).rounds.asks(number, states=[AskState.POSTED])
    store.close()
    return {ask.task_id for ask in asks}


def test_the_loop_from_connecting_to_the_second_round(make_project, backend, studio: LabelStudio) -> None:
    from model.data.bank import ImageBank
    from model.learners.own_network import Learner
    from model.pretext.run import extract_losses

    # The paper's way of asking, which can be worked out anew from what Label Studio was told.
    paper = {"batch_order": "high_first", "first_query": "even", "sampler": "least_confidence", "encoder": "none"}
    project = make_project(IMAGES, rounds=ROUNDS, labels_per_round=K, **paper)
    backend.wait_round(project.id, 0)
    status = backend.wait(project.id, "recording", lambda s: s["stage"] == "labeling")
    assert status["pool"].items() >= {"tasks": IMAGES, "images": IMAGES, "broken": 0, "labeled": 0}.items()
    assert status["error"] is None

    # Every task is recorded, in batches of equal size, in the configured order.
    known = recorded(studio, project.id)
    assert len(known) == IMAGES
    sizes = Counter(batch for _, batch in known.values())
    assert sorted(sizes) == list(range(ROUNDS))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for batch in range(ROUNDS - 1):
        lowest = min(loss for loss, b in known.values() if b == batch)
        assert lowest >= max(loss for loss, b in known.values() if b == batch + 1)

    # The losses are those of the saved model, rounded to three digits.
    folder = project_files(backend, project.id)
    (bank_folder,) = folder.glob("bank-*")
    (weights,) = folder.glob("pretext-*.pt")
    bank = ImageBank.open(bank_folder)
    losses = extract_losses(bank, weights, device="cpu")
    pool = pool_of(backend, project.id)
    np.testing.assert_allclose([known[int(task)][0] for task in pool.task_id], losses[: len(pool.task_id)], rtol=0.006)

    # The first query takes every second image of batch 0 (40 images, K = 20), by loss.
    ranks = sorted(np.flatnonzero(pool.batch == 0), key=lambda i: (-pool.loss[i], i))
    expected = {int(pool.task_id[i]) for i in ranks[::2]}
    queue = status["queue"]["task_ids"]
    assert expected <= set(queue)
    assert len(queue) == K + 2, "K and a tenth of it for the holdout"

    # Label Studio is set to serve it, and serves it in order.
    info = studio.project(project.id).settings()
    assert (info.model_version, info.sampling) == ("pt4al-r000", "Uncertainty sampling")
    scores = scores_of(studio.project(project.id), "pt4al-r000")
    assert set(scores) == set(queue)
    assert [task for task, _ in sorted(scores.items(), key=lambda item: item[1])] == queue
    served = [project.label_next() for _ in range(K + 2)]
    assert served == queue

    # The next queue holds the K least confident images of batch 1, by the saved model.
    status = backend.wait_round(project.id, 1)
    outputs = Learner.load(folder / "round-000.pt", device="cpu").predict(bank)
    pool = pool_of(backend, project.id)
    batch = np.flatnonzero((pool.batch == 1) & pool.available)
    confidence = outputs.probs.max(axis=1)
    least = sorted(batch, key=lambda i: confidence[i])[:K]
    assert {int(pool.task_id[i]) for i in least} <= set(status["queue"]["task_ids"])
    scores = scores_of(studio.project(project.id), "pt4al-r001")
    for i in least:
        assert scores[int(pool.task_id[i])] == pytest.approx(confidence[i], abs=1e-5)
    backend.wait(
        project.id,
        "superseded predictions to go",
        lambda _: "pt4al-r000" not in studio.project(project.id).predictions.versions(),
    )

    # The result is measured on images that were not trained on.
    entry = status["history"][0]
    assert (entry["round"], entry["labels"], entry["holdout_size"]) == (0, K, 2)
    low, high = entry["interval"]
    assert 0 <= low <= entry["holdout_accuracy"] <= high <= 1


def test_three_annotators_at_once_never_leave_queue_and_reserve(make_project, label_studio, backend, studio) -> None:
    project = make_project(IMAGES, rounds=ROUNDS, labels_per_round=K)
    backend.wait_round(project.id, 0)
    people = [project.colleague(f"anna{i}") for i in range(3)]
    # One opens a task and leaves: it stays locked and must not hold the round up.
    locked = project.annotator.next_task(project.id).id
    outside, served, stop = [], [], threading.Event()

    def work(person) -> None:
        while not stop.is_set():
            task = person.next_task(project.id)
            if task is None:  # quicker than the reserve came: people press the button again
                time.sleep(1)
                continue
            if not any(is_queue(prediction["model_version"]) for prediction in task.predictions):
                outside.append((task.id, time.time()))
            served.append(task.id)
            person.annotate(task.id, project.result(project.label_of(task.data)))
            time.sleep(0.3)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        backend.wait_round(project.id, 1)
        time.sleep(3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    # A task that Label Studio chose in the instant before the switch is shown without the prediction it was chosen by,
    # one to each person at most.
    with closing(backend.store()) as store:
        switched = store.of(store.projects.find(project.id).id).rounds.get(1).live_at
    assert {task for task, _ in outside} <= posted(backend, project.id, number=0)
    assert len(outside) <= len(people)
    assert all(abs(at - switched) < 3 for _, at in outside)
    assert len(served) > K + 2
    assert locked not in served


def test_what_people_do_meanwhile_is_followed(make_project, backend, studio: LabelStudio, digits) -> None:
    project = make_project(100, rounds=4, labels_per_round=10)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"]
    backend.wait(project.id, "recording", lambda s: s["stage"] == "labeling")

    # A label is given, changed and taken back; another image is skipped; a task is deleted.
    annotation = project.label_task(queue[0])
    backend.wait(project.id, "one answer", lambda s: s["queue"]["answered"] == 1)
    project.annotator.call("PATCH", f"/api/annotations/{annotation}/", {"result": project.result("9")})
    project.annotator.call("DELETE", f"/api/annotations/{annotation}/")
    backend.wait(project.id, "no answer", lambda s: s["queue"]["answered"] == 0 and queue[0] in s["queue"]["task_ids"])
    project.annotator.skip(queue[1])
    backend.wait(project.id, "a skipped answer", lambda s: s["queue"]["answered"] == 1 and s["pool"]["labeled"] == 0)
    project.annotator.call("DELETE", f"/api/tasks/{queue[2]}/")
    backend.wait(
        project.id, "a deleted task", lambda s: s["pool"]["tasks"] == 99 and queue[2] not in s["queue"]["task_ids"]
    )

    # Images that come later get a loss and a batch.
    paths, labels = digits
    late = paths[500:510]
    project.truth.update(dict(zip([p.stem for p in late], labels[500:510], strict=True)))
    project.annotator.upload_images(project.id, late)
    backend.wait(project.id, "late images", lambda s: s["pool"]["images"] == 109)
    backend.wait(project.id, "late images on record", lambda _: len(recorded(studio, project.id)) == 109)

    # The version and the sampling are put back if someone changes them.
    studio.project(project.id).update(sampling="Sequential sampling")
    backend.wait(
        project.id,
        "the sampling",
        lambda _: studio.project(project.id).settings().sampling == "Uncertainty sampling",
        30,
    )


def test_labels_from_before_connecting_are_used_and_late_images_predicted(
    make_project, backend, studio: LabelStudio, digits
) -> None:
    project = make_project(100, connect=False)
    ids = sorted(studio.project(project.id).tasks.ids())
    for task_id in ids[:12]:
        project.label_task(task_id)
    project.annotator.connect_backend(project.id, backend.url, {"rounds": 4, "labels_per_round": 10})
    status = backend.wait_round(project.id, 0)
    assert status["pool"]["labeled"] == 12
    assert not set(ids[:12]) & set(status["queue"]["task_ids"])
    for _ in range(11):
        project.label_next()
    assert backend.wait_round(project.id, 1)["history"][0]["labels"] == 12 + 10

    # An image that the model has not seen is scored while Label Studio waits.
    before = studio.project(project.id).tasks.ids()
    project.annotator.upload_images(project.id, digits[0][900:901])
    (late,) = set(studio.project(project.id).tasks.ids()) - set(before)
    uid = f"{project.id}.{studio.project(project.id).settings().created_ts}"
    answer = requests.post(f"{backend.url}/predict", json={"project": uid, "tasks": [{"id": late}]}, timeout=90).json()
    (prediction,) = answer["results"]
    assert prediction["model_version"] == "pt4al-r000-pool"
    assert prediction["result"][0]["value"]["choices"][0] in "0123456789"
    assert 0.1 <= prediction["score"] <= 1


def test_the_queue_in_label_studio_is_made_right_again(make_project, backend, studio: LabelStudio, digits) -> None:
    project = make_project(30, rounds=2, labels_per_round=10)
    backend.wait_round(project.id, 0)

    def exact() -> bool:
        posted = [one.task for one in studio.project(project.id).predictions.stored("pt4al-r000")]
        queue = backend.status(project.id)["queue"]["task_ids"]
        return len(queue) >= 11 and sorted(posted) == sorted(queue)

    # Most images come after the first queue is there: the pool is split anew, under the same version.
    project.annotator.upload_images(project.id, digits[0][30:100])
    backend.wait(project.id, "the new images", lambda s: s["pool"]["images"] == 100)
    wait_for("the new split on record", lambda: len(recorded(studio, project.id)) == 100)
    wait_for("the new queue without traces of the old", exact)
    batches = Counter(batch for _, batch in recorded(studio, project.id).values())
    assert batches == {0: 50, 1: 50}

    # Somebody deletes the predictions of our version.
    studio.project(project.id).predictions.delete_version("pt4al-r000")
    wait_for("the queue to be posted again", exact)
    wait_for(
        "the version to be served again", lambda: studio.project(project.id).settings().model_version == "pt4al-r000"
    )


def test_start_training_ends_a_round_early(make_project, backend, studio: LabelStudio) -> None:
    project = make_project(100, rounds=4, labels_per_round=10)
    backend.wait_round(project.id, 0)
    for _ in range(4):
        project.label_next()
    model = studio.project(project.id).ml_backends()[0]
    project.annotator.call("POST", f"/api/ml/{model.id}/train")
    status = backend.wait_round(project.id, 1)
    assert 3 <= status["history"][0]["labels"] <= 4


def test_two_projects_do_not_touch_each_other(make_project, backend, studio: LabelStudio) -> None:
    one = make_project(60, rounds=3, labels_per_round=10)
    two = make_project(60, first=60, rounds=3, labels_per_round=10)
    backend.wait_round(one.id, 0)
    before = backend.wait_round(two.id, 0)
    for _ in range(11):
        one.label_next()
    backend.wait_round(one.id, 1)
    after = backend.status(two.id)
    assert after["queue"] == before["queue"]
    assert after["pool"].items() >= {"tasks": 60, "images": 60, "broken": 0, "labeled": 0}.items()
    assert studio.project(two.id).settings().model_version == "pt4al-r000"
    assert not set(after["queue"]["task_ids"]) & set(all_tasks(studio, one.id))


def test_killing_everything_in_the_middle_of_a_round_loses_nothing(
    make_project, make_backend, studio: LabelStudio
) -> None:
    backend = make_backend()
    project = make_project(100, using=backend, rounds=4, labels_per_round=10)
    queue = backend.wait_round(project.id, 0)["queue"]["task_ids"][:11]
    served = [project.label_next() for _ in range(4)]
    backend.kill()
    served.append(project.label_next())  # nobody hears of this one
    backend.start()
    status = backend.wait(project.id, "the answers", lambda s: s["queue"]["answered"] == 5)
    assert status["queue"]["task_ids"][:6] == [task for task in queue if task not in served]
    served += [project.label_next() for _ in range(6)]
    assert served == queue, "nothing is asked twice, and the order is kept"
    time.sleep(0.5)
    backend.kill()  # while the model trains, or shortly before or after
    backend.start()
    status = backend.wait_round(project.id, 1)
    predictions = studio.project(project.id).predictions.stored("pt4al-r001")
    assert sorted(one.task for one in predictions) == sorted(status["queue"]["task_ids"]), "no double predictions"
    assert backend.stop() == 0
