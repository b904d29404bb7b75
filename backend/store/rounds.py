"""Rounds and the images that they ask for."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository, unindexed
from backend.store.tables import (
    Answer,
    AskRole,
    AskRow,
    AskState,
    AutolabelOrderRow,
    ImageState,
    RoundRow,
    RoundState,
    TaskRow,
    same_task,
)
from backend.store.task_answers import Reason, reasons
from backend.store.task_changes import Quality, exact_match, write_qualities
from backend.store.task_counts import updating_counts
from model.problems.base import Prediction, Target


@dataclass(frozen=True)
class Ask:
    """One image to be asked, of the queue (query, holdout) or the reserve, with the prediction of the model before."""

    task_id: int
    score: float
    role: AskRole
    prediction: Prediction | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class AskCounts:
    """The number of a round's asks in each condition; deleted and broken tasks do not count."""

    unposted: int = 0  # of the queue, not or perhaps not in Label Studio
    waiting: int = 0  # posted and unanswered
    answered: int = 0  # posted and answered by a person
    useless: int = 0  # of these, with an answer that cannot be learned
    by_model: int = 0  # posted, with an annotation that was made from a prediction
    reserve: int = 0  # unanswered, not posted
    doubtful: int = 0  # sent, but not confirmed
    left: int = 0  # whose task is there at all, broken ones among them


class Rounds(Repository):
    """Queries over rounds of one project."""

    def plan(self, number: int, model_version: str, asks: Sequence[Ask], quality: Quality = exact_match) -> bool:
        """Write a round and its asks, in serving order; return False if the round exists already.

        Holdout images become holdout tasks. Unanswered ones of earlier rounds are released. quality: of a prediction
        for a target, for images that were answered while the round was planned.
        """
        with self._write() as session:
            if session.get(RoundRow, (self.project_id, number)) is not None:
                return False
            asked = sum(ask.role != AskRole.RESERVE for ask in asks)
            session.add(RoundRow(project_id=self.project_id, number=number, model_version=model_version, asked=asked))
            session.add_all(_row(self.project_id, number, rank, ask) for rank, ask in enumerate(asks))
            _draw_holdout(session, self.project_id, [ask.task_id for ask in asks if ask.role == AskRole.HOLDOUT])
            session.flush()
            predicted = [ask.task_id for ask in asks if ask.prediction is not None]
            write_qualities(session, self.project_id, _targets(session, self.project_id, predicted), quality)
        return True

    def extend_reserve(self, number: int, asks: Sequence[Ask]) -> None:
        """Append images to a round's reserve, except those that it asks already."""
        with self._write() as session:
            known = set(
                session.scalars(
                    select(AskRow.task_id).where(AskRow.project_id == self.project_id, AskRow.round == number)
                )
            )
            rank = len(known)
            for ask in asks:
                if ask.task_id not in known:
                    session.add(_row(self.project_id, number, rank, ask))
                    rank += 1

    def current(self) -> RoundRow | None:
        """Return the newest round, or None."""
        with self._read() as session:
            return session.scalar(
                select(RoundRow).where(RoundRow.project_id == self.project_id).order_by(RoundRow.number.desc()).limit(1)
            )

    def get(self, number: int) -> RoundRow | None:
        """Return a round, or None."""
        with self._read() as session:
            return session.get(RoundRow, (self.project_id, number))

    def newest_model(self) -> RoundRow | None:
        """Return the newest round that has a trained model, or None."""
        with self._read() as session:
            return session.scalar(
                select(RoundRow)
                .where(RoundRow.project_id == self.project_id, RoundRow.has_model)
                .order_by(RoundRow.number.desc())
                .limit(1)
            )

    def all(self) -> list[RoundRow]:
        """Return all rounds by number."""
        with self._read() as session:
            return list(
                session.scalars(
                    select(RoundRow).where(RoundRow.project_id == self.project_id).order_by(RoundRow.number)
                )
            )

    def set(self, number: int, **values: Any) -> None:
        """Set columns of a round."""
        with self._write() as session:
            session.execute(_this(self.project_id, number).values(**values))

    def add_seconds(self, number: int, **seconds: float) -> None:
        """Add the durations of a round's steps, in seconds by name."""
        with self._write() as session:
            row = session.get_one(RoundRow, (self.project_id, number))
            row.seconds = {**row.seconds, **{name: round(value, 2) for name, value in seconds.items()}}

    def go_live(self, number: int) -> None:
        """Note that Label Studio serves the round; later calls change nothing."""
        with self._write() as session:
            session.execute(
                _this(self.project_id, number)
                .where(RoundRow.state == RoundState.PLANNED)
                .values(state=RoundState.LIVE, live_at=time.time())
            )

    def to_clean(self) -> list[RoundRow]:
        """Return superseded rounds whose predictions are still in Label Studio, while a newer round is live."""
        with self._read() as session:
            newest_live = session.scalar(
                select(func.max(RoundRow.number)).where(
                    RoundRow.project_id == self.project_id, RoundRow.state == RoundState.LIVE
                )
            )
            if newest_live is None:
                return []
            return list(
                session.scalars(
                    select(RoundRow).where(
                        RoundRow.project_id == self.project_id, RoundRow.number < newest_live, ~RoundRow.cleaned
                    )
                )
            )

    def asks(self, number: int, *, states: Sequence[AskState], limit: int | None = None) -> list[AskRow]:
        """Return a round's asks whose image is in the bank, in serving order."""
        with self._read() as session:
            query = (
                select(AskRow)
                .join(TaskRow, same_task())
                .where(
                    AskRow.project_id == self.project_id,
                    AskRow.round == number,
                    AskRow.state.in_(states),
                    TaskRow.state == ImageState.OK,
                )
                .order_by(AskRow.rank)
            )
            return list(session.scalars(query.limit(limit) if limit else query))

    def queue(self, number: int) -> list[AskRow]:
        """Return the unanswered asks that are in Label Studio, in serving order."""
        return self._unanswered(number, AskRow.state == AskState.POSTED)

    def next_reserve(self, number: int, limit: int) -> list[AskRow]:
        """Return the best unanswered asks of the reserve that are not in Label Studio."""
        return self._unanswered(number, AskRow.state == AskState.PLANNED, AskRow.role == AskRole.RESERVE)[:limit]

    def mark(self, number: int, task_ids: Sequence[int], state: AskState) -> None:
        """Set the state of asks."""
        with self._write() as session:
            for part in chunks(task_ids, IN_LIMIT):
                session.execute(
                    update(AskRow)
                    .where(AskRow.project_id == self.project_id, AskRow.round == number, AskRow.task_id.in_(part))
                    .values(state=state)
                )

    def counts(self, number: int) -> AskCounts:
        """Count a round's asks by condition, in one pass."""
        posted = AskRow.state == AskState.POSTED
        reserve = AskRow.role == AskRole.RESERVE
        alive = TaskRow.state == ImageState.OK
        unanswered = TaskRow.answer == Answer.NONE
        by_model = TaskRow.answer == Answer.MODEL
        conditions = {
            "unposted": alive & ~posted & ~reserve,
            "waiting": alive & posted & unanswered,
            "answered": posted & ~unanswered & ~by_model,
            "useless": posted & ~unanswered & ~by_model & (TaskRow.answer != Answer.LABELED),
            "by_model": posted & by_model,
            "reserve": alive & reserve & unanswered & (AskRow.state == AskState.PLANNED),
            "doubtful": alive & (AskRow.state == AskState.POSTING),
            "left": TaskRow.state != ImageState.GONE,
        }
        columns = [func.coalesce(func.sum(case((test, 1), else_=0)), 0) for test in conditions.values()]
        with self._read() as session:
            row = session.execute(
                select(*columns)
                .select_from(AskRow)
                .join(TaskRow, same_task())
                .where(AskRow.project_id == self.project_id, AskRow.round == number)
            ).one()
        return AskCounts(**{name: int(value) for name, value in zip(conditions, row, strict=True)})

    def answers(self, number: int) -> Counter[Reason]:
        """Return how many of a round's posted asks have each kind of answer; of those of no use, the reason."""
        query = (
            select(TaskRow.answer, TaskRow.refusal, func.count())
            .select_from(AskRow)
            .join(TaskRow, same_task())
            .where(AskRow.project_id == self.project_id, AskRow.round == number, AskRow.state == AskState.POSTED)
            .group_by(TaskRow.answer, TaskRow.refusal)
        )
        with self._read() as session:
            return reasons(session.execute(query).all())

    def mark_unconfirmed(self, number: int) -> None:
        """Note that the unanswered posted asks may not be in Label Studio any more."""
        self.mark(number, [ask.task_id for ask in self.queue(number)], AskState.POSTING)

    def drop(self, number: int) -> None:
        """Delete a round that nobody has answered."""
        with self._write() as session:
            _free_holdout(session, self.project_id, AskRow.round == number)
            session.execute(delete(AskRow).where(AskRow.project_id == self.project_id, AskRow.round == number))
            session.execute(delete(RoundRow).where(RoundRow.project_id == self.project_id, RoundRow.number == number))

    def is_any_task_left(self) -> bool:
        """Tell whether a task that some round has asked is still there."""
        left = (
            select(AskRow.task_id)
            .join(TaskRow, same_task())
            .where(AskRow.project_id == self.project_id, unindexed(TaskRow.state) != ImageState.GONE)
        )
        with self._read() as session:
            return session.scalar(left.limit(1)) is not None

    def forget(self) -> None:
        """Delete all rounds, as when the pool is split again before the first answer."""
        with self._write() as session:
            session.execute(delete(AutolabelOrderRow).where(AutolabelOrderRow.project_id == self.project_id))
            session.execute(delete(AskRow).where(AskRow.project_id == self.project_id))
            session.execute(delete(RoundRow).where(RoundRow.project_id == self.project_id))
            with updating_counts(session, self.project_id):
                session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(holdout=False))

    def _unanswered(self, number: int, *where: Any) -> list[AskRow]:
        with self._read() as session:
            return _select_unanswered(session, self.project_id, number, where)


def _targets(session: Session, project_id: int, task_ids: Sequence[int]) -> dict[int, Target]:
    """Return the targets of those of these tasks that are labeled, by task id."""
    targets: dict[int, Target] = {}
    for part in chunks(task_ids, IN_LIMIT):
        query = select(TaskRow.task_id, TaskRow.target).where(
            TaskRow.project_id == project_id,
            TaskRow.task_id.in_(part),
            unindexed(TaskRow.answer) == Answer.LABELED,
        )
        targets.update((task_id, target) for task_id, target in session.execute(query))
    return targets


def _draw_holdout(session: Session, project_id: int, task_ids: Sequence[int]) -> None:
    """Release the unanswered holdout tasks, and take these, except those that were answered during planning."""
    _free_holdout(session, project_id)
    for part in chunks(task_ids, IN_LIMIT):
        session.execute(_unanswered_tasks(project_id).where(TaskRow.task_id.in_(part)).values(holdout=True))


def _free_holdout(session: Session, project_id: int, *where: Any) -> None:
    # Through the asks: nearly all of a pool is unanswered, and reading it all would hold the write lock.
    asked = select(AskRow.task_id).where(AskRow.project_id == project_id, AskRow.role == AskRole.HOLDOUT, *where)
    unanswered = _unanswered_tasks(project_id).where(TaskRow.task_id.in_(asked), TaskRow.holdout)
    session.execute(unanswered.values(holdout=False), execution_options={"synchronize_session": False})


def _unanswered_tasks(project_id: int) -> Any:
    return update(TaskRow).where(TaskRow.project_id == project_id, unindexed(TaskRow.answer) == Answer.NONE)


def _select_unanswered(session: Session, project_id: int, number: int, where: Sequence[Any]) -> list[AskRow]:
    return list(
        session.scalars(
            select(AskRow)
            .join(TaskRow, same_task())
            .where(
                AskRow.project_id == project_id,
                AskRow.round == number,
                TaskRow.state == ImageState.OK,
                TaskRow.answer == Answer.NONE,
                *where,
            )
            .order_by(AskRow.rank)
        )
    )


def _row(project_id: int, number: int, rank: int, ask: Ask) -> AskRow:
    return AskRow(
        project_id=project_id,
        round=number,
        task_id=ask.task_id,
        rank=rank,
        score=ask.score,
        role=ask.role,
        prediction=ask.prediction,
        confidence=ask.confidence,
    )


def _this(project_id: int, number: int) -> Any:
    return update(RoundRow).where(RoundRow.project_id == project_id, RoundRow.number == number)
