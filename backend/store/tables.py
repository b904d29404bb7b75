"""The tables. Rows that leave the store are detached and for reading only.

Index spaces: ``task_id`` is Label Studio's, ``pool_index`` is the row in the project's image bank.
Times are seconds since the epoch.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The declarative base of all tables."""


class ImageState(StrEnum):
    """What became of a task's image."""

    NEW = "new"  # to be fetched
    OK = "ok"  # in the bank
    BROKEN = "broken"  # quarantined, see reason
    GONE = "gone"  # the task was deleted in Label Studio


class Answer(StrEnum):
    """What the annotators have said about a task."""

    NONE = "none"
    LABELED = "labeled"
    SKIPPED = "skipped"
    TIE = "tie"  # several annotators, no majority
    UNUSABLE = "unusable"  # a label that the configuration does not have, or an empty annotation


class RoundState(StrEnum):
    """How far a round has come."""

    PLANNED = "planned"  # its asks are in the store
    LIVE = "live"  # Label Studio serves them
    CLOSED = "closed"  # its labels are trained on, its queue may go


class AskRole(StrEnum):
    """Why an image is asked."""

    QUERY = "query"
    HOLDOUT = "holdout"  # random, never trained on
    RESERVE = "reserve"  # next best, posted before the queue runs dry


class AskState(StrEnum):
    """Whether an ask's prediction is in Label Studio."""

    PLANNED = "planned"
    POSTING = "posting"  # sent, or about to be: look before sending again
    POSTED = "posted"


class JobState(StrEnum):
    """What a long job is doing."""

    QUEUED = "queued"
    RUNNING = "running"
    FAILED = "failed"


class ProjectRow(Base):
    """A Label Studio project, told from others by server, id and creation time."""

    __tablename__ = "project"
    __table_args__ = (UniqueConstraint("server", "studio_id", "created_ts"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    studio_project_id: Mapped[int] = mapped_column("studio_id", index=True)
    created_ts: Mapped[str] = mapped_column(String(32))
    server: Mapped[str] = mapped_column(String(500))  # Label Studio's address as we reach it
    hostname: Mapped[str | None] = mapped_column(Text)  # what it calls itself, which is how people reach it
    title: Mapped[str | None] = mapped_column(Text)
    token: Mapped[str | None] = mapped_column(Text)  # encrypted
    webhook_secret: Mapped[str] = mapped_column(Text)  # encrypted
    backend_url: Mapped[str | None] = mapped_column(Text)  # ours, as Label Studio reaches it
    label_config: Mapped[str] = mapped_column(Text, default="")
    extra_params: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    active: Mapped[bool] = mapped_column(default=True, index=True)
    connected_at: Mapped[float] = mapped_column(Float)
    error: Mapped[str | None] = mapped_column(Text)
    notice: Mapped[str | None] = mapped_column(Text)
    put_back: Mapped[str | None] = mapped_column(Text)  # what somebody had changed by hand, and we changed back
    cursor: Mapped[str | None] = mapped_column(String(64))  # updated_at of the last task change we know
    image_side: Mapped[int | None]
    pretext_key: Mapped[str | None] = mapped_column(String(64))  # the configuration that the losses belong to
    split_key: Mapped[str | None] = mapped_column(String(64))  # the order and number of the batches
    pretext_images: Mapped[int] = mapped_column(default=0)  # the pool it was trained on
    training_requested: Mapped[bool] = mapped_column(default=False)
    tab_id: Mapped[int | None]
    tab_version: Mapped[str | None] = mapped_column(String(64))
    card: Mapped[str | None] = mapped_column(Text)  # what the model card last said
    card_id: Mapped[int | None]  # Label Studio's id of that card: our entry among the project's models


_WAITS = text("retry_at IS NOT NULL")  # few do, and are counted at every event; of the others nothing is kept
# What store.tally.unrecorded says of a task with an image, in the words that the statement has: the index is used then.
_UNRECORDED = text(
    "state = 'ok' AND batch IS NOT NULL AND (recorded_batch IS NULL OR recorded_batch != batch "
    "OR recorded_loss IS NULL OR recorded_loss != loss)"
)


class TaskRow(Base):
    """A task: its image, its answer, its loss, and what Label Studio knows of the loss."""

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
    retry_at: Mapped[float | None] = mapped_column(Float)
    pool_index: Mapped[int | None]
    answer: Mapped[str] = mapped_column(String(8), default=Answer.NONE)
    label: Mapped[str | None] = mapped_column(Text)
    answered_at: Mapped[float | None] = mapped_column(Float)  # when we saw the first answer; None: before we knew it
    holdout: Mapped[bool] = mapped_column(default=False)
    loss: Mapped[float | None] = mapped_column(Float)
    batch: Mapped[int | None]
    recorded_loss: Mapped[float | None] = mapped_column(Float)
    recorded_batch: Mapped[int | None]


class TaskCountsRow(Base):
    """How many tasks of a project are in which condition, see ``store.tally``."""

    __tablename__ = "tally"

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


class RoundRow(Base):
    """A round: what was asked under which version, and what the model trained after it can do."""

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
    labels: Mapped[int | None]  # what the model was trained on
    holdout_size: Mapped[int | None]
    holdout_correct: Mapped[int | None]
    holdout_gained: Mapped[int | None]  # of the holdout: right now, wrong by the model before
    holdout_lost: Mapped[int | None]  # the other way round
    agreement: Mapped[float | None] = mapped_column(Float)
    exported: Mapped[bool] = mapped_column(default=False)  # its model lies there as files for other programs
    seconds: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class AskRow(Base):
    """One image of a round: queue (query and holdout) or reserve, in serving order."""

    __tablename__ = "ask"
    __table_args__ = (Index("ask_by_state", "project_id", "round", "state"),)

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(primary_key=True)
    rank: Mapped[int]
    score: Mapped[float] = mapped_column(Float)
    role: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8), default=AskState.PLANNED)
    label: Mapped[str | None] = mapped_column(Text)  # predicted
    confidence: Mapped[float | None] = mapped_column(Float)


class JobRow(Base):
    """A long job of a project, one of a kind; ``token`` names the attempt that may go on."""

    __tablename__ = "job"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    token: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(8))
    worker: Mapped[str | None] = mapped_column(String(200))
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    paced_at: Mapped[float | None] = mapped_column(Float)  # when this attempt first said how far it was
    paced_from: Mapped[float | None] = mapped_column(Float)  # and how far: it may go on from a checkpoint
    queued_at: Mapped[float] = mapped_column(Float)
    heartbeat_at: Mapped[float] = mapped_column(Float)
    failures: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[str | None] = mapped_column(Text)


class AutolabelOrderRow(Base):
    """The last order to write predictions for all that nobody labels, and what became of it."""

    __tablename__ = "final"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    round: Mapped[int]  # whose model predicts
    confidence: Mapped[float] = mapped_column(Float)  # below which an image stays without
    temperature: Mapped[float] = mapped_column(Float)  # that made the confidences honest when it was ordered
    ordered_at: Mapped[float] = mapped_column(Float)
    written_at: Mapped[float | None] = mapped_column(Float)
    images: Mapped[int]  # expected when it was ordered, then written
    errors: Mapped[float] = mapped_column(Float)  # expected among them
