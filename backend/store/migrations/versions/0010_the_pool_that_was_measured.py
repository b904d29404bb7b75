"""The pool whose images decided the sides of the bank and of the encoder, and how many tasks came after it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Bring the schema to this revision. A project notes the pool that it has when it is next looked at."""
    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("measured_to", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("measured_rows", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("stale", sa.String(length=16), nullable=True))
    with op.batch_alter_table("task_counts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("later", sa.Integer(), nullable=False, server_default="0"))
