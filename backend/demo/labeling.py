"""The simulated annotator, and what it sees of the loop from outside."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

from backend.demo.annotator import Annotator
from backend.demo.sample_images import DemoImages
from backend.errors import ProjectError
from backend.server.own_processes import ask

PATIENCE_S = 900.0  # for any one step; a digit takes seconds
POLL_S = 0.2
STATUS_S = 30.0
COUNT_EVERY_S = 5.0  # counting costs Label Studio more than a second, which recording could use
PAUSE_S = 3.0  # between answers while a model trains: the annotator is served from the reserve
TASKS_A_PAGE = 500
QUEUE_VERSION = re.compile(r"pt4al-r\d{3}")


@dataclass
class Round:
    """The result of a round; ``round`` counts from 0, as the API does, and is shown one higher."""

    round: int
    labels: int
    holdout_accuracy: float | None
    interval: tuple[float, float]
    holdout: tuple[int, int]  # images right, images
    queue_share: float
    turnaround_s: float


class Labeling:
    """A connected project, seen by the person who labels it and by the one who watches."""

    def __init__(self, person: Annotator, project: int, backend_url: str, images: DemoImages) -> None:
        """Take a project that is connected to the backend."""
        self.project = project
        self._person = person
        self._url = f"{backend_url}/api/projects/{project}"
        self._images = images
        self._served = 0
        self._from_queue = 0

    def status(self) -> dict[str, Any]:
        """Return the project's status, as the backend says it; empty if it does not know the project yet."""
        try:
            status: dict[str, Any] = json.loads(ask(self._url, STATUS_S))
        except HTTPError:
            return {}
        return status

    def live_version(self) -> str:
        """Return the version whose predictions Label Studio serves now."""
        raw = self._person.call("GET", f"/api/projects/{self.project}/", include="id,model_version")
        return str(raw["model_version"] or "")

    def wait_for_queue(self, number: int, tick: Callable[[dict[str, Any]], None]) -> None:
        """Wait until the queue of a round is live in Label Studio, showing ``tick`` the status meanwhile."""
        self._wait(f"the queue of round {number + 1}", lambda: self._is_live(number), tick)

    def label_round(self, number: int, tick: Callable[[dict[str, Any]], None]) -> Round:
        """Answer what Label Studio serves until the round is complete; go on slowly until the next queue is live."""
        self._served = self._from_queue = 0
        queue = self._wait("the status of the round", lambda: self._of_round(number))["queue"]
        left = queue["size"] - queue["answered"]
        for _ in range(left):
            self._label_next()
            tick({"answered": self._served, "size": left})
        last_answer = time.monotonic()

        self._wait("the next queue", lambda: self._is_live(number + 1), tick, self._label_slowly())
        turnaround_s = time.monotonic() - last_answer
        return self._entry(number, turnaround_s)

    def recorded(self) -> int:
        """Return the number of tasks that carry loss and batch in Label Studio, as numbers."""
        count, page = 0, 1
        while True:
            raw = self._person.call(
                "GET", "/api/tasks/", project=self.project, page=page, page_size=TASKS_A_PAGE, fields="task_only"
            )
            data = [task["data"] for task in raw["tasks"]]
            count += sum(
                _is_number(values.get("pretext_loss")) and _is_number(values.get("pretext_batch")) for values in data
            )
            if page * TASKS_A_PAGE >= raw["total"]:
                return count
            page += 1

    def wait_until_recorded(self, tasks: int, tick: Callable[[int], None]) -> int:
        """Wait until every task is recorded, showing ``tick`` how many are; return their number."""
        deadline = time.monotonic() + PATIENCE_S
        while (count := self.recorded()) < tasks and time.monotonic() < deadline:
            tick(count)
            time.sleep(COUNT_EVERY_S)
        return count

    def _is_live(self, number: int) -> bool:
        """Ask the backend, which costs Label Studio nothing; then see in Label Studio whether it is so."""
        return self._of_round(number) is not None and self.live_version() == version_of(number)

    def _of_round(self, number: int) -> dict[str, Any] | None:
        status = self.status()
        return status if status and status["queue"]["model_version"] == version_of(number) else None

    def _label_next(self) -> None:
        queued = self.status()["queue"]["task_ids"]
        task = self._wait("a task to label", lambda: self._person.next_task(self.project))
        self._served += 1
        # Label Studio sends along the predictions of the project's version: a task without one was drawn at random, or
        # chosen in the moment before the version changed.
        carries = any(QUEUE_VERSION.fullmatch(stored["model_version"]) for stored in task.predictions)
        self._from_queue += carries or task.id in queued
        choice = self._images.label_of(task.data)
        self._person.annotate(
            task.id,
            [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}],
        )

    def _label_slowly(self) -> Callable[[], None]:
        due = time.monotonic() + PAUSE_S

        def label_when_due() -> None:
            nonlocal due
            if time.monotonic() >= due:
                self._label_next()
                due = time.monotonic() + PAUSE_S

        return label_when_due

    def _entry(self, number: int, turnaround_s: float) -> Round:
        history = self._wait(
            "the round's result", lambda: [e for e in self.status()["history"] if e["round"] == number]
        )
        entry = history[0]
        return Round(
            round=number,
            labels=entry["labels"],
            holdout_accuracy=entry["holdout_accuracy"],
            interval=tuple(entry["interval"]),
            holdout=(entry["holdout_correct"], entry["holdout_size"]),
            queue_share=round(self._from_queue / self._served, 4),
            turnaround_s=round(turnaround_s, 1),
        )

    def _wait(
        self,
        what: str,
        test: Callable[[], Any],
        tick: Callable[[dict[str, Any]], None] = lambda status: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (result := test()):
            status = self.status()
            if time.monotonic() > deadline:
                reason = status.get("error") or f"its status is {status}"
                raise ProjectError(f"waited {PATIENCE_S:.0f} s for {what}: {reason}")
            tick(status)
            meanwhile()
            time.sleep(POLL_S)
        return result


def version_of(number: int) -> str:
    """Return the version that the queue of a round carries."""
    return f"pt4al-r{number:03d}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
