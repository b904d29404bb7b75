"""The only package that writes SQL: projects, tasks, rounds, asks and jobs."""

from backend.store.database import ProjectStore, Store
from backend.store.tables import (
    Answer,
    AskRole,
    AskRow,
    AskState,
    AutolabelOrderRow,
    ImageState,
    JobRow,
    JobState,
    ProjectRow,
    RoundRow,
    RoundState,
    TaskRow,
)

__all__ = [
    "Answer",
    "AskRole",
    "AskRow",
    "AskState",
    "AutolabelOrderRow",
    "ImageState",
    "JobRow",
    "JobState",
    "ProjectRow",
    "ProjectStore",
    "RoundRow",
    "RoundState",
    "Store",
    "TaskRow",
]
