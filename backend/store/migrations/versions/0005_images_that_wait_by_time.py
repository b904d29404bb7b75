"""An index of the images that wait for another try: they are few, and counted at every event."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Bring the schema to this revision."""
    waits = sa.text("retry_at IS NOT NULL")
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(
            "task_by_retry_at",
            ["project_id", "state", "retry_at"],
            unique=False,
            sqlite_where=waits,
            postgresql_where=waits,
        )
