"""The features of a project's images, and the learner of each round's model."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Bring the schema to this revision. Projects get their features while they go on."""
    with op.batch_alter_table("project", recreate="never") as batch_op:
        batch_op.add_column(sa.Column("encoder_side", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("features_key", sa.String(length=128), nullable=True))
        batch_op.add_column(sa.Column("fetching_since", sa.Float(), nullable=True))
    with op.batch_alter_table("round", recreate="never") as batch_op:
        batch_op.add_column(sa.Column("learner", sa.JSON(), nullable=True))
