"""The tables. Rows that leave the store are detached and for reading only.

Index spaces: ``task_id`` is Label Studio's, ``pool_index`` is the row in the project's image bank.
Times are seconds since the epoch.
"""

import json
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from model.problems.base import Prediction, Target

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Base(DeclarativeBase):
    """The declarative base of all tables."""


class JsonText(TypeDecorator[Any]):
    """A JSON value as canonical text: equal values have equal texts, which SQL compares and groups by. None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the text of a value."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the value of a text."""
        if value is None:
            return None
        return _parse_string(value) if value.startswith('"') else json.loads(value)


def canonical_json(value: Any) -> str:
    """Return the one text that a JSON value is stored as."""
    return _ENCODER.encode(value)


@lru_cache(maxsize=4096)
def _parse_string(value: str) -> Any:
    # A pool has a million targets, but few classes. Strings cannot be changed, so that they may be shared.
    return json.loads(value)


class ImageState(StrEnum):
    """The state of a task's image."""

    NEW = "new"  # to be fetched
    OK = "ok"  # in the bank
    BROKEN = "broken"  # quarantined, see reason
    GONE = "gone"  # the task was deleted in Label Studio


class Answer(StrEnum):
    """The kind of answer that the annotators have given to a task."""

    NONE = "none"
    LABELED = "labeled"
    SKIPPED = "skipped"
    TIE = "tie"  # several annotators, no majority
    UNUSABLE = "unusable"  # nothing that can be learned, see ``Refused``
    MODEL = "model"  # made from predictions, not by a person: done, but neither trained on nor measured with


class Refused(StrEnum):
    """Why an answer cannot be learned."""

    EMPTY = "empty"  # no answer to the question
    OTHER = "other"  # answers to other questions alone
    SEVERAL = "several"  # several answers, where one can be learned
    UNKNOWN = "unknown"  # a class that the configuration does not have
    HUGE = "huge"  # a region claims an image larger than any that is read
    UNUSABLE = "unusable"  # of another form than Label Studio's own


class RoundState(StrEnum):
    """The state of a round."""

    PLANNED = "planned"  # its asks are in the store
    LIVE = "live"  # Label Studio serves them
    CLOSED = "closed"  # a model is trained on its labels, its predictions may be deleted


class AskRole(StrEnum):
    """The reason why an image is asked."""

    QUERY = "query"
    HOLDOUT = "holdout"  # random, never trained on
    RESERVE = "reserve"  # next best, posted before the queue runs dry


class AskState(StrEnum):
    """Whether an ask's prediction is in Label Studio."""

    PLANNED = "planned"
    POSTING = "posting"  # sent, or about to be: check Label Studio before sending again
    POSTED = "posted"


class JobState(StrEnum):
    """The state of a long job."""

    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"


class ProjectRow(Base):
    """A Label Studio project, identified by server, id and creation time."""

    __tablename__ = "project"
    __table_args__ = (UniqueConstraint("server", "studio_id", "created_ts"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    studio_project_id: Mapped[int] = mapped_column("studio_id", index=True)
    created_ts: Mapped[str] = mapped_column(String(32))
    server: Mapped[str] = mapped_column(String(500))  # Label Studio's address as this backend reaches it
    hostname: Mapped[str | None] = mapped_column(Text)  # the address that it reports, by which people reach it
    title: Mapped[str | None] = mapped_column(Text)
    token: Mapped[str | None] = mapped_column(Text)  # encrypted
    webhook_secret: Mapped[str] = mapped_column(Text)  # encrypted
    backend_url: Mapped[str | None] = mapped_column(Text)  # this backend's address as Label Studio reaches it
    label_config: Mapped[str] = mapped_column(Text, default="")
    extra_params: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    active: Mapped[bool] = mapped_column(default=True, index=True)
    connected_at: Mapped[float] = mapped_column(Float)
    error: Mapped[str | None] = mapped_column(Text)
    notice: Mapped[str | None] = mapped_column(Text)
    put_back: Mapped[str | None] = mapped_column(
        Text
    )  # the settings that were changed by hand and that this backend restored
    cursor: Mapped[str | None] = mapped_column(String(64))  # updated_at of the last task change that was read
    image_side: Mapped[int | None]
    encoder_side: Mapped[int | None]  # of the images that the encoder is given, in pixels
    features_key: Mapped[str | None] = mapped_column(String(128))  # the encoder whose features every image has
    fetching_since: Mapped[float | None] = mapped_column(Float)  # when the first image of the pool was there
    # The control tag that the labels, or the newest model, are of; empty after an upgrade, until all answers are read.
    control: Mapped[str | None] = mapped_column(Text)
    pretext_key: Mapped[str | None] = mapped_column(String(64))  # the configuration that the losses belong to
    split_key: Mapped[str | None] = mapped_column(String(64))  # the order and number of the batches
    pretext_images: Mapped[int] = mapped_column(default=0)  # size of the pool that the pretext model was trained on
    # The last task of the pool whose sizes decided both sides; None until that pool is whole.
    measured_to: Mapped[int | None]
    measured_rows: Mapped[int | None]  # rows that the image bank had then
    stale: Mapped[str | None] = mapped_column(String(16))  # name of a ``StaleReason`` that was found by measuring
    training_requested: Mapped[bool] = mapped_column(default=False)
    card: Mapped[str | None] = mapped_column(Text)  # the last text of the model card
    called_at: Mapped[float | None] = mapped_column(Float)  # when its server called ``/setup`` last
    place: Mapped[str | None] = mapped_column(String(8))  # ``Place``, while other servers have it and that matters
    place_text: Mapped[str | None] = mapped_column(Text)  # what people should know of that
    moved_at: Mapped[float | None] = mapped_column(Float)  # when its history came to this server from another one
    origin: Mapped[int | None]  # our id of the row that this server's data were copied from, where it shows
    take_from: Mapped[int | None]  # our id of the row whose history a person wants here
    card_id: Mapped[int | None]  # Label Studio's id of that card: this backend's entry among the project's models


_WAITS = text("retry_at IS NOT NULL")  # few tasks wait, and they are counted at every event
# ``task_counts.unrecorded`` for a task with an image, in the text of the statement: SQLite uses the index only then.
_UNRECORDED = text(
    "state = 'ok' AND batch IS NOT NULL AND (recorded_batch IS NULL OR recorded_batch != batch "
    "OR recorded_loss IS NULL OR recorded_loss != loss)"
)


class TaskRow(Base):
    """A task: its image, its target, its loss, and the loss that is recorded in Label Studio."""

    __tablename__ = "task"
    __table_args__ = (
        Index("task_by_state", "project_id", "state"),
        Index("task_by_pool_index", "project_id", "pool_index", unique=True),
        Index("task_by_answer", "project_id", "answer"),
        Index("task_by_answered_at", "project_id", "answered_at"),
        Index("task_by_retry_at", "project_id", "state", "retry_at", sqlite_where=_WAITS, postgresql_where=_WAITS),
        Index("task_unrecorded", "project_id", "loss", sqlite_where=_UNRECORDED, postgresql_where=_UNRECORDED),
    )

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    task_id: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(8), default=ImageState.NEW)
    reason: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    # When the image is to be fetched; of one in the bank, when it is fetched again because its reference has changed.
    retry_at: Mapped[float | None] = mapped_column(Float)
    pool_index: Mapped[int | None]  # kept while the image is fetched again, since it may be the same
    answer: Mapped[str] = mapped_column(String(8), default=Answer.NONE)
    target: Mapped[Target | None] = mapped_column(JsonText)  # the agreed answer; None unless ``answer`` is LABELED
    refusal: Mapped[str | None] = mapped_column(String(8))  # ``Refused``; None unless ``answer`` is UNUSABLE
    accepted: Mapped[bool] = mapped_column(default=False)  # a person took a prediction over as it was
    left_out: Mapped[int] = mapped_column(default=0)  # things marked on which annotators do not agree
    answered_at: Mapped[float | None] = mapped_column(Float)  # when the first answer was read; None: with the task
    holdout: Mapped[bool] = mapped_column(default=False)
    loss: Mapped[float | None] = mapped_column(Float)
    batch: Mapped[int | None]
    recorded_loss: Mapped[float | None] = mapped_column(Float)
    recorded_batch: Mapped[int | None]


class TaskCountsRow(Base):
    """The number of tasks of a project in each condition, see ``task_counts``."""

    __tablename__ = "task_counts"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    tasks: Mapped[int]
    new: Mapped[int]
    ok: Mapped[int]
    broken: Mapped[int]
    answered: Mapped[int]
    labeled: Mapped[int]
    trainable: Mapped[int]
    available: Mapped[int]
    askable: Mapped[int]
    unscored: Mapped[int]
    unsplit: Mapped[int]
    unrecorded: Mapped[int]
    later: Mapped[int] = mapped_column(default=0)


class RoundRow(Base):
    """A round: what was asked under which version, and how good the model is that was trained after it.

    holdout_quality, holdout_squares: sums, over the labeled holdout, of the qualities of the model's predictions and of
    their squares. holdout_change, holdout_change_squares: sums of the paired differences in quality to the model
    before, and of their squares; None where the two were not compared. holdout_score: what ``Problem.score`` says of
    the predictions for the whole holdout, where that is not the mean quality.
    """

    __tablename__ = "round"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    model_version: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(8), default=RoundState.PLANNED)
    asked: Mapped[int]
    cleaned: Mapped[bool] = mapped_column(default=False)  # its predictions are deleted from Label Studio
    live_at: Mapped[float | None] = mapped_column(Float)
    closed_at: Mapped[float | None] = mapped_column(Float)
    has_model: Mapped[bool] = mapped_column(default=False)
    classes: Mapped[list[str] | None] = mapped_column(JSON)  # the model's outputs, in order
    labels: Mapped[int | None]  # number of labels that the model was trained on
    problem: Mapped[str] = mapped_column(String(32), default="single_label")  # of ``model.problems``
    decoding: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # what ``Problem.tune`` chose
    learner: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # ``learners.fitting.Fitted``
    holdout_size: Mapped[int | None]
    holdout_quality: Mapped[float | None] = mapped_column(Float)
    holdout_squares: Mapped[float | None] = mapped_column(Float)
    holdout_change: Mapped[float | None] = mapped_column(Float)
    holdout_change_squares: Mapped[float | None] = mapped_column(Float)
    holdout_score: Mapped[float | None] = mapped_column(Float)
    agreement: Mapped[float | None] = mapped_column(Float)
    exported: Mapped[bool] = mapped_column(default=False)  # its model is written as files for other programs
    seconds: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class AskRow(Base):
    """One image of a round: queue (query and holdout) or reserve, in serving order."""

    __tablename__ = "ask"
    __table_args__ = (
        Index("ask_by_state", "project_id", "round", "state"),
        Index("ask_by_task", "project_id", "task_id", "state", "round"),
    )

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(primary_key=True)
    rank: Mapped[int]
    score: Mapped[float] = mapped_column(Float)
    role: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8), default=AskState.PLANNED)
    prediction: Mapped[Prediction | None] = mapped_column(JsonText)  # of the model before, when the image was asked
    confidence: Mapped[float | None] = mapped_column(Float)  # of the prediction
    quality: Mapped[float | None] = mapped_column(Float)  # of the prediction; None without prediction or target


class JobRow(Base):
    """A long job of a project, at most one of a kind; ``token`` is the attempt that may go on."""

    __tablename__ = "job"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    token: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(8))
    worker: Mapped[str | None] = mapped_column(String(200))
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    paced_at: Mapped[float | None] = mapped_column(Float)  # when this attempt first reported progress
    paced_from: Mapped[float | None] = mapped_column(
        Float
    )  # the progress it reported then: it may go on from a checkpoint
    queued_at: Mapped[float] = mapped_column(Float)
    heartbeat_at: Mapped[float] = mapped_column(Float)
    failures: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[str | None] = mapped_column(Text)


class InstallationRow(Base):
    """Whose database it is: one row."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    database: Mapped[str] = mapped_column(String(32))  # the id of this database
    folder: Mapped[str] = mapped_column(String(32))  # the id of the data folder that its files are in
    seen_at: Mapped[float] = mapped_column(Float)  # when somebody with this folder was last at work


class AutolabelOrderRow(Base):
    """The last order to write predictions for all unlabeled images, and its result."""

    __tablename__ = "autolabel_order"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    round: Mapped[int]  # the round whose model predicts
    confidence: Mapped[float] = mapped_column(Float)  # below which an image gets no prediction
    temperature: Mapped[float] = mapped_column(Float)  # that calibrated the confidences when it was ordered
    ordered_at: Mapped[float] = mapped_column(Float)
    written_at: Mapped[float | None] = mapped_column(Float)
    images: Mapped[int]  # expected when it was ordered, then written
    errors: Mapped[float] = mapped_column(Float)  # expected among these images


def same_task() -> ColumnElement[bool]:
    """Return the condition that joins asks with their tasks."""
    return (TaskRow.project_id == AskRow.project_id) & (TaskRow.task_id == AskRow.task_id)
