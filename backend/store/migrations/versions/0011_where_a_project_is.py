"""Where a project is, while several servers have it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Bring the schema to this revision."""
    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("place", sa.String(length=8), nullable=True))
        batch_op.add_column(sa.Column("place_text", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("moved_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("called_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("origin", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("take_from", sa.Integer(), nullable=True))
