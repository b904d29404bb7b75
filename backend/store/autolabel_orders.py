"""Orders to write predictions for all unlabeled images: the last one of each project."""

import time

from sqlalchemy import delete, update

from backend.store.base import Repository
from backend.store.tables import AutolabelOrderRow


class AutolabelOrders(Repository):
    """Queries over one project's orders."""

    def order(self, *, number: int, confidence: float, temperature: float, images: int, errors: float) -> None:
        """Order predictions of round ``number``'s model; this replaces an earlier order."""
        with self._write() as session:
            session.merge(
                AutolabelOrderRow(
                    project_id=self.project_id,
                    round=number,
                    confidence=confidence,
                    temperature=temperature,
                    ordered_at=time.time(),
                    written_at=None,
                    images=images,
                    errors=errors,
                )
            )

    def get(self) -> AutolabelOrderRow | None:
        """Return the last order, or None."""
        with self._read() as session:
            return session.get(AutolabelOrderRow, self.project_id)

    def drop(self) -> None:
        """Delete the last order."""
        with self._write() as session:
            session.execute(delete(AutolabelOrderRow).where(AutolabelOrderRow.project_id == self.project_id))

    def written(self, ordered_at: float, images: int) -> None:
        """Note that the order of that time is done: ``images`` have a prediction."""
        with self._write() as session:
            session.execute(
                update(AutolabelOrderRow)
                .where(AutolabelOrderRow.project_id == self.project_id, AutolabelOrderRow.ordered_at == ordered_at)
                .values(written_at=time.time(), images=images)
            )
