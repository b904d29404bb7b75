"""An index of the tasks that Label Studio knows wrongly, by loss: a turn of the recording reads the next of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Bring the schema to this revision."""
    unrecorded = sa.text(
        "state = 'ok' AND batch IS NOT NULL AND (recorded_batch IS NULL OR recorded_batch != batch "
        "OR recorded_loss IS NULL OR recorded_loss != loss)"
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(
            "task_unrecorded",
            ["project_id", "loss"],
            unique=False,
            sqlite_where=unrecorded,
            postgresql_where=unrecorded,
        )
