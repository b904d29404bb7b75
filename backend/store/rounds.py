"""Rounds and what they ask."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from backend.chunks import chunks
from backend.store.base import IN_LIMIT, Repository, unindexed
from backend.store.tables import Answer, AskRole, AskRow, AskState, ImageState, RoundRow, RoundState, TaskRow
from backend.store.task_counts import updating_counts


@dataclass(frozen=True)
class Ask:
    """One image to be asked: queue (query, holdout) or reserve."""

    task_id: int
    score: float
    role: AskRole
    label: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class AskCounts:
    """How far a round's asks have come; deleted and broken tasks do not count."""

    unposted: int = 0  # of the queue, not (surely) in Label Studio
    waiting: int = 0  # posted and unanswered
    answered: int = 0  # posted and answered
    reserve: int = 0  # unanswered, not posted
    doubtful: int = 0  # sent, but nobody noted whether it arrived


class Rounds(Repository):
    """Queries over rounds of one project."""

    def plan(self, number: int, model_version: str, asks: Sequence[Ask]) -> bool:
        """Write a round and its asks, in serving order; False if the round exists already.

        Holdout images become holdout tasks. Those of earlier rounds that nobody answered are free again.
        """
        with self._write() as session:
            if session.get(RoundRow, (self.project_id, number)) is not None:
                return False
            asked = sum(ask.role != AskRole.RESERVE for ask in asks)
            session.add(RoundRow(project_id=self.project_id, number=number, model_version=model_version, asked=asked))
            session.add_all(_row(self.project_id, number, rank, ask) for rank, ask in enumerate(asks))
            _draw_holdout(session, self.project_id, [ask.task_id for ask in asks if ask.role == AskRole.HOLDOUT])
        return True

    def extend_reserve(self, number: int, asks: Sequence[Ask]) -> None:
        """Append images to a round's reserve; those that it asks already are passed over."""
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
        """Give the newest round, or None."""
        with self._read() as session:
            return session.scalar(
                select(RoundRow).where(RoundRow.project_id == self.project_id).order_by(RoundRow.number.desc()).limit(1)
            )

    def get(self, number: int) -> RoundRow | None:
        """Give a round, or None."""
        with self._read() as session:
            return session.get(RoundRow, (self.project_id, number))

    def newest_model(self) -> RoundRow | None:
        """Give the newest round that has a trained model, or None."""
        with self._read() as session:
            return session.scalar(
                select(RoundRow)
                .where(RoundRow.project_id == self.project_id, RoundRow.has_model)
                .order_by(RoundRow.number.desc())
                .limit(1)
            )

    def all(self) -> list[RoundRow]:
        """List rounds by number."""
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
        """Note how long parts of a round took."""
        with self._write() as session:
            row = session.get_one(RoundRow, (self.project_id, number))
            row.seconds = {**row.seconds, **{name: round(value, 2) for name, value in seconds.items()}}

    def go_live(self, number: int) -> None:
        """Note that Label Studio serves the round; only the first time counts."""
        with self._write() as session:
            session.execute(
                _this(self.project_id, number)
                .where(RoundRow.state == RoundState.PLANNED)
                .values(state=RoundState.LIVE, live_at=time.time())
            )

    def to_clean(self) -> list[RoundRow]:
        """List superseded rounds whose predictions are still in Label Studio, while a newer one is live."""
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
        """List a round's asks of alive tasks in serving order."""
        with self._read() as session:
            query = (
                select(AskRow)
                .join(TaskRow, _same_task())
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
        """List the unanswered asks that are in Label Studio, in serving order."""
        return self._unanswered(number, AskRow.state == AskState.POSTED)

    def next_reserve(self, number: int, limit: int) -> list[AskRow]:
        """List the best unanswered asks of the reserve that are not in Label Studio."""
        return self._unanswered(number, AskRow.state == AskState.PLANNED, AskRow.role == AskRole.RESERVE)[:limit]

    def mark(self, number: int, task_ids: Sequence[int], state: AskState) -> None:
        """Note whether asks are in Label Studio."""
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
        conditions = {
            "unposted": alive & ~posted & ~reserve,
            "waiting": alive & posted & unanswered,
            "answered": posted & ~unanswered,
            "reserve": alive & reserve & unanswered & (AskRow.state == AskState.PLANNED),
            "doubtful": alive & (AskRow.state == AskState.POSTING),
        }
        columns = [func.coalesce(func.sum(case((test, 1), else_=0)), 0) for test in conditions.values()]
        with self._read() as session:
            row = session.execute(
                select(*columns)
                .select_from(AskRow)
                .join(TaskRow, _same_task())
                .where(AskRow.project_id == self.project_id, AskRow.round == number)
            ).one()
        return AskCounts(**{name: int(value) for name, value in zip(conditions, row, strict=True)})

    def mark_unconfirmed(self, number: int) -> None:
        """Note that nobody knows which of the unanswered posted asks are in Label Studio."""
        self.mark(number, [ask.task_id for ask in self.queue(number)], AskState.POSTING)

    def drop(self, number: int) -> None:
        """Forget a round that was planned and never served."""
        with self._write() as session:
            _free_holdout(session, self.project_id, AskRow.round == number)
            session.execute(delete(AskRow).where(AskRow.project_id == self.project_id, AskRow.round == number))
            session.execute(delete(RoundRow).where(RoundRow.project_id == self.project_id, RoundRow.number == number))

    def forget(self) -> None:
        """Forget all rounds, as when the pool is split anew before anyone has answered."""
        with self._write() as session:
            session.execute(delete(AskRow).where(AskRow.project_id == self.project_id))
            session.execute(delete(RoundRow).where(RoundRow.project_id == self.project_id))
            with updating_counts(session, self.project_id):
                session.execute(update(TaskRow).where(TaskRow.project_id == self.project_id).values(holdout=False))

    def _unanswered(self, number: int, *where: Any) -> list[AskRow]:
        with self._read() as session:
            return _select_unanswered(session, self.project_id, number, where)


def _draw_holdout(session: Session, project_id: int, task_ids: Sequence[int]) -> None:
    """Free the holdout tasks that nobody answered, and take these; not those that were answered while we planned."""
    _free_holdout(session, project_id)
    for part in chunks(task_ids, IN_LIMIT):
        session.execute(_unanswered_tasks(project_id).where(TaskRow.task_id.in_(part)).values(holdout=True))


def _free_holdout(session: Session, project_id: int, *where: Any) -> None:
    # By the asks: nearly all of a pool is unanswered, and the writing transaction would look at each.
    asked = select(AskRow.task_id).where(AskRow.project_id == project_id, AskRow.role == AskRole.HOLDOUT, *where)
    mine = _unanswered_tasks(project_id).where(TaskRow.task_id.in_(asked), TaskRow.holdout)
    session.execute(mine.values(holdout=False), execution_options={"synchronize_session": False})


def _unanswered_tasks(project_id: int) -> Any:
    return update(TaskRow).where(TaskRow.project_id == project_id, unindexed(TaskRow.answer) == Answer.NONE)


def _select_unanswered(session: Session, project_id: int, number: int, where: Sequence[Any]) -> list[AskRow]:
    return list(
        session.scalars(
            select(AskRow)
            .join(TaskRow, _same_task())
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
        label=ask.label,
        confidence=ask.confidence,
    )


def _same_task() -> Any:
    return (TaskRow.project_id == AskRow.project_id) & (TaskRow.task_id == AskRow.task_id)


def _this(project_id: int, number: int) -> Any:
    return update(RoundRow).where(RoundRow.project_id == project_id, RoundRow.number == number)
