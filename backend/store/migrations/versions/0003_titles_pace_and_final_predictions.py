"""Project titles, the gain on the holdout, the pace of jobs, and orders for final predictions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "final",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=False),
        sa.Column("ordered_at", sa.Float(), nullable=False),
        sa.Column("written_at", sa.Float(), nullable=True),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id"),
    )
    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("title", sa.Text(), nullable=True))
    with op.batch_alter_table("round", schema=None) as batch_op:
        batch_op.add_column(sa.Column("holdout_gained", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("holdout_lost", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("exported", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("paced_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("paced_from", sa.Float(), nullable=True))
