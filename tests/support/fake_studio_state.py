"""What a fake Label Studio holds: projects, tasks, annotations, predictions, locks; and its clock."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

SEQUENTIAL, UNIFORM, UNCERTAINTY = "Sequential sampling", "Uniform sampling", "Uncertainty sampling"
LOCK = timedelta(days=1)  # Label Studio's TASK_LOCK_TTL
STEP = timedelta(milliseconds=1)  # between two writes


class Clock:
    """The server's clock. It stands still but for the step of each write, so that no two writes have one time stamp."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        """Move on by this many seconds."""
        self.now += timedelta(seconds=seconds)

    def stamp(self) -> datetime:
        """Return the time stamp of a write."""
        self.now += STEP
        return self.now


@dataclass
class Annotation:
    """One submitted answer; a skip is a cancelled one."""

    id: int
    user: str
    result: list[dict[str, Any]]
    was_cancelled: bool = False
    lead_time: float | None = None
    parent_prediction: int | None = None


@dataclass
class StoredPrediction:
    """One prediction of a task."""

    id: int
    model_version: str
    score: float | None
    result: list[dict[str, Any]]


@dataclass
class Task:
    """One task; ``locks`` are the users who have it open, with the time until which they do."""

    id: int
    data: Any
    updated_at: datetime
    annotations: list[Annotation] = field(default_factory=list)
    predictions: list[StoredPrediction] = field(default_factory=list)
    locks: dict[str, datetime] = field(default_factory=dict)

    def is_labeled(self, overlap: int) -> bool:
        """Tell whether it has as many annotations as the project wants; skips are none."""
        return sum(not annotation.was_cancelled for annotation in self.annotations) >= overlap

    def is_done_by(self, user: str) -> bool:
        """Tell whether this user has submitted or skipped it."""
        return any(annotation.user == user for annotation in self.annotations)

    def is_locked_for(self, user: str, now: datetime, overlap: int) -> bool:
        """Tell whether others hold or have answered as much of it as the project wants."""
        holders = sum(until > now for holder, until in self.locks.items() if holder != user)
        answers = sum(not annotation.was_cancelled for annotation in self.annotations)
        return holders + answers >= overlap


@dataclass
class Project:
    """One project."""

    id: int
    title: str
    label_config: str
    created_at: datetime
    sampling: str = SEQUENTIAL
    model_version: str | None = None
    maximum_annotations: int = 1
    tasks: dict[int, Task] = field(default_factory=dict)
    backends: dict[int, dict[str, Any]] = field(default_factory=dict)
    webhooks: dict[int, dict[str, Any]] = field(default_factory=dict)
    views: dict[int, dict[str, Any]] = field(default_factory=dict)

    def versions(self) -> dict[str, int]:
        """Count the predictions of each version."""
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            for prediction in task.predictions:
                counts[prediction.model_version] = counts.get(prediction.model_version, 0) + 1
        return counts

    def titles(self) -> set[str]:
        """Return the titles of the connected models."""
        return {backend["title"] for backend in self.backends.values()}


def fits(result: list[dict[str, Any]], label_config: str) -> bool:
    """Tell whether every region of a prediction has labels of the configuration, and a mask if it is one."""
    controls = {tag.get("name"): tag for tag in ElementTree.fromstring(label_config).iter()}
    for region in result:
        control = controls.get(region["from_name"])
        if control is None or control.tag.lower() != region["type"]:
            return False
        known = {tag.get("alias") or tag.get("value") for tag in control}
        value = region["value"]
        # A control tag without labels, such as <Number>, takes any.
        if (known and not set(value.get(region["type"], ())) <= known) or value.get("rle") == []:
            return False
    return True
