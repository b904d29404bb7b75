"""How good the predictions for the whole holdout are together, where that is not their mean quality."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Bring the schema to this revision. Rounds of before have no score."""
    with op.batch_alter_table("round", schema=None) as batch_op:
        batch_op.add_column(sa.Column("holdout_score", sa.Float(), nullable=True))
