"""Job leases: owner, heartbeat, retry time."""

import secrets
import time
from collections.abc import Callable, Collection

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from backend.store.base import Repository, Transaction
from backend.store.engine import Clock
from backend.store.tables import JobRow, JobState

HEARTBEAT_S = 2.0  # between two heartbeats of a running job
DEAD_AFTER_S = 20.0  # a running job without a heartbeat for so long is dead
QUEUE_GRACE_S = 5.0  # from claiming a job until it must be in Redis
FIRST_RETRY_S = 5.0
LAST_RETRY_S = 300.0
OUTAGE_RETRY_S = 20.0  # the longest wait where the cause is a server that is expected to come back


class Jobs(Repository):
    """Queries over jobs; a project has at most one of a kind.

    The times in the table are the database's, as a worker's clock may differ from that of who looks after it. The rows
    that leave have them as this machine's clock counts.
    """

    def __init__(self, read: Transaction, write: Transaction, project_id: int, clock: Clock) -> None:
        """clock: that all processes agree on."""
        super().__init__(read, write, project_id)
        self._clock = clock

    def start(self, kind: str) -> str | None:
        """Claim the right to queue a job; return its token, or None if one is alive or a failed one has to wait."""
        now = self._clock.now()
        with self._write() as session:
            row = session.get(JobRow, (self.project_id, kind))
            if row is not None and (is_alive(row, now) or is_waiting(row, now)):
                return None
            token = secrets.token_hex(16)
            if row is None:
                row = JobRow(project_id=self.project_id, kind=kind)
                session.add(row)
            row.token, row.state, row.worker, row.progress = token, JobState.QUEUED, None, 0.0
            row.queued_at = row.heartbeat_at = now
            row.paced_at = row.paced_from = None
            return token

    def take(self, kind: str, token: str, worker: str) -> bool:
        """Begin a queued job; return False if another attempt has replaced it or begun it."""
        now = self._clock.now()
        with self._write() as session:
            result = session.execute(
                update(JobRow)
                .where(
                    JobRow.project_id == self.project_id,
                    JobRow.kind == kind,
                    JobRow.token == token,
                    JobRow.state == JobState.QUEUED,
                )
                .values(state=JobState.RUNNING, worker=worker, heartbeat_at=now)
            )
            return bool(result.rowcount)  # type: ignore[attr-defined]

    def beat(self, kind: str, token: str, progress: float) -> bool:
        """Write a heartbeat; return False if this attempt may no longer go on."""
        now = self._clock.now()
        pace = {
            "paced_at": func.coalesce(JobRow.paced_at, now),
            "paced_from": func.coalesce(JobRow.paced_from, progress),
        }
        with self._write() as session:
            result = session.execute(
                update(JobRow)
                .where(JobRow.project_id == self.project_id, JobRow.kind == kind, JobRow.token == token)
                .values(progress=progress, heartbeat_at=now, **(pace if progress > 0 else {}))
            )
            return bool(result.rowcount)  # type: ignore[attr-defined]

    def finish(self, kind: str, token: str) -> None:
        """Delete a finished job."""
        with self._write() as session:
            row = session.get(JobRow, (self.project_id, kind))
            if row is not None and row.token == token:
                session.delete(row)

    def fail(self, kind: str, token: str, error: str, longest_s: float = LAST_RETRY_S) -> float | None:
        """Note a failure; return the seconds until the next try, or None if another attempt has replaced this one.

        They double with each failure, up to ``longest_s``.
        """
        now = self._clock.now()
        with self._write() as session:
            row = session.get(JobRow, (self.project_id, kind))
            if row is None or row.token != token:
                return None
            row.failures += 1
            wait: float = min(FIRST_RETRY_S * 2 ** min(row.failures - 1, 10), longest_s)
            row.state, row.error, row.retry_at = JobState.FAILED, error, now + wait
            return wait

    def drop_lost(self, is_queued: Callable[[str], bool]) -> int:
        """Drop queued jobs that Redis does not have (any more), so that they can be started again; return how many."""
        now = time.time()
        lost = [
            row
            for row in self.all()
            if row.state == JobState.QUEUED and now - row.queued_at > QUEUE_GRACE_S and not is_queued(row.token)
        ]
        for row in lost:
            self.finish(row.kind, row.token)
        return len(lost)

    def forget_failed(self, kinds: Collection[str]) -> None:
        """Drop failed jobs of these kinds: a failure of a job that nothing needs is not shown."""
        for row in self.all():
            if row.state == JobState.FAILED and row.kind in kinds:
                self.finish(row.kind, row.token)

    def retry_now(self) -> None:
        """Let failed jobs run again at once, as when a person presses "try again"."""
        with self._write() as session:
            session.execute(
                update(JobRow).where(JobRow.project_id == self.project_id).values(retry_at=None, failures=0)
            )

    def all(self) -> list[JobRow]:
        """Return the project's jobs by kind."""
        with self._read() as session:
            rows = list(
                session.scalars(select(JobRow).where(JobRow.project_id == self.project_id).order_by(JobRow.kind))
            )
        ahead_s = self._clock.ahead_s if rows else 0.0
        for row in rows:  # they belong to no session any more
            row.queued_at -= ahead_s
            row.heartbeat_at -= ahead_s
            row.retry_at = None if row.retry_at is None else row.retry_at - ahead_s
            row.paced_at = None if row.paced_at is None else row.paced_at - ahead_s
        return rows


def release_worker(session: Session, worker: str) -> int:
    """Mark the running jobs of a worker as dead, so that others start them again; return how many there were."""
    result = session.execute(
        update(JobRow).where(JobRow.worker == worker, JobRow.state == JobState.RUNNING).values(heartbeat_at=0.0)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]


def is_alive(row: JobRow, now: float) -> bool:
    """Tell whether a job is running or waits for a worker."""
    if row.state == JobState.RUNNING:
        return now - row.heartbeat_at < DEAD_AFTER_S
    return row.state == JobState.QUEUED


def is_waiting(row: JobRow, now: float) -> bool:
    """Tell whether a failed job waits for its next try."""
    return row.state == JobState.FAILED and row.retry_at is not None and now < row.retry_at
