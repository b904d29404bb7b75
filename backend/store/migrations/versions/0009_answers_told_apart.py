"""Why an answer cannot be learned, whether it is an accepted prediction, and the control tag that a project learns."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Bring the schema to this revision."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("refusal", sa.String(length=8), nullable=True))
        batch_op.add_column(sa.Column("accepted", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("control", sa.Text(), nullable=True))
    # Empty: of an earlier release. The answers are read once more, because only Label Studio knows their causes.
    op.execute("UPDATE project SET control = ''")
