"""What Label Studio told us, as frozen records: no field of its JSON travels further than this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

Json = Any
"""A value decoded from JSON, before it is checked."""


class Secret(Protocol):
    """What holds a token without showing it, such as pydantic's ``SecretStr``."""

    def get_secret_value(self) -> str:
        """Return the text itself."""
        ...


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A token and where it came from; the name goes into messages, the value never does."""

    name: str
    value: str | Secret = field(repr=False)

    @property
    def text(self) -> str:
        """The token itself, for the Authorization header only."""
        return (self.value if isinstance(self.value, str) else self.value.get_secret_value()).strip()


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project's settings and counts."""

    id: int
    title: str
    created_at: str
    label_config: str
    sampling: str
    model_version: str
    task_number: int

    @property
    def created_ts(self) -> int:
        """Creation time in whole seconds since 1970, as in ``/setup``'s "<id>.<timestamp>"."""
        return int(parse_time(self.created_at).timestamp())


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """One saved annotation of a task.

    skipped: the annotator passed the task on. timed: Label Studio's interface saved it, which notes how long the person
    took. by_model: the action "Create Annotations From Predictions" made it, and nobody has saved it since.
    """

    id: int
    result: tuple[Mapping[str, Json], ...]
    skipped: bool
    timed: bool = False
    by_model: bool = False


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task with its annotations."""

    id: int
    data: Json
    """An object, unless somebody has stored something else by the API."""
    updated_at: str
    annotations: tuple[AnnotationRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some changed tasks, and the cursor to go on from once they are stored."""

    tasks: tuple[TaskRecord, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction to be written; an empty ``result`` is ordered by its score all the same."""

    task: int
    score: float
    model_version: str
    result: Sequence[Mapping[str, Json]] = ()


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A prediction that Label Studio holds."""

    id: int
    task: int
    score: float | None
    model_version: str


@dataclass(frozen=True, slots=True)
class MlBackend:
    """One entry of a project's Model page."""

    id: int
    project: int
    url: str
    title: str
    description: str
    extra_params: Json
    auth_method: str
    basic_auth_user: str
    state: str
    version: str = ""
    """What the model has answered to ``/setup``."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of a project; its headers may hold a secret and stay out of the repr."""

    id: int
    url: str
    is_active: bool
    send_payload: bool
    send_for_all_actions: bool
    headers: Mapping[str, str] = field(repr=False)


def parse_time(text: str) -> datetime:
    """Read a time as Label Studio writes it (ISO 8601, microseconds left out where they are zero), in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Write a time as Data Manager's filters want it: UTC, always with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def task_record(raw: Mapping[str, Json]) -> TaskRecord:
    """Build a task from the JSON of ``/api/tasks``."""
    return TaskRecord(
        id=int(raw["id"]),
        data=raw["data"],
        updated_at=raw["updated_at"],
        annotations=tuple(annotation_record(one) for one in raw.get("annotations") or ()),
    )


def annotation_record(raw: Mapping[str, Json]) -> AnnotationRecord:
    """Build an annotation from its JSON."""
    timed = raw.get("lead_time") is not None
    return AnnotationRecord(
        id=int(raw["id"]),
        result=tuple(raw.get("result") or ()),
        skipped=bool(raw.get("was_cancelled")),
        timed=timed,
        by_model=raw.get("parent_prediction") is not None and not timed,
    )
