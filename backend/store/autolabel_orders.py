"""Orders to label the rest: the last one of each project."""

import time

from sqlalchemy import delete, update

from backend.store.base import Repository
from backend.store.tables import FinalRow


class Finals(Repository):
    """Queries over orders for final predictions, named by our project ``key``."""

    def order(
        self, key: int, *, number: int, confidence: float, temperature: float, images: int, errors: float
    ) -> None:
        """Order predictions of round ``number``'s model; takes the place of an earlier order."""
        with self._write() as session:
            session.merge(
                FinalRow(
                    project_id=key,
                    round=number,
                    confidence=confidence,
                    temperature=temperature,
                    ordered_at=time.time(),
                    written_at=None,
                    images=images,
                    errors=errors,
                )
            )

    def get(self, key: int) -> FinalRow | None:
        """Give the last order, or None."""
        with self._read() as session:
            return session.get(FinalRow, key)

    def drop(self, key: int) -> None:
        """Forget the last order."""
        with self._write() as session:
            session.execute(delete(FinalRow).where(FinalRow.project_id == key))

    def written(self, key: int, ordered_at: float, images: int) -> None:
        """Note that the order of that time is carried out: ``images`` have a prediction."""
        with self._write() as session:
            session.execute(
                update(FinalRow)
                .where(FinalRow.project_id == key, FinalRow.ordered_at == ordered_at)
                .values(written_at=time.time(), images=images)
            )
