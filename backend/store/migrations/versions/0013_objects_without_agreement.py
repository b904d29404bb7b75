"""How many objects that annotators drew are left out of a task's target, for want of agreement."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Bring the schema to this revision. The answers of projects of boxes are read once more, to count the objects."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("left_out", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE project SET control = '' WHERE id IN (SELECT project_id FROM round WHERE problem = 'detection')")
