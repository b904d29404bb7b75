"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "project",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("studio_id", sa.Integer(), nullable=False),
        sa.Column("created_ts", sa.String(length=32), nullable=False),
        sa.Column("server", sa.String(length=500), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=True),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("webhook_secret", sa.Text(), nullable=False),
        sa.Column("backend_url", sa.Text(), nullable=True),
        sa.Column("label_config", sa.Text(), nullable=False),
        sa.Column("extra_params", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("connected_at", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("notice", sa.Text(), nullable=True),
        sa.Column("put_back", sa.Text(), nullable=True),
        sa.Column("cursor", sa.String(length=64), nullable=True),
        sa.Column("image_side", sa.Integer(), nullable=True),
        sa.Column("pretext_key", sa.String(length=64), nullable=True),
        sa.Column("split_key", sa.String(length=64), nullable=True),
        sa.Column("pretext_images", sa.Integer(), nullable=False),
        sa.Column("training_requested", sa.Boolean(), nullable=False),
        sa.Column("tab_id", sa.Integer(), nullable=True),
        sa.Column("tab_version", sa.String(length=64), nullable=True),
        sa.Column("card", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("server", "studio_id", "created_ts"),
    )
    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_project_active"), ["active"], unique=False)
        batch_op.create_index(batch_op.f("ix_project_studio_id"), ["studio_id"], unique=False)

    op.create_table(
        "ask",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "round", "task_id"),
    )
    with op.batch_alter_table("ask", schema=None) as batch_op:
        batch_op.create_index("ask_by_state", ["project_id", "round", "state"], unique=False)

    op.create_table(
        "job",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("queued_at", sa.Float(), nullable=False),
        sa.Column("heartbeat_at", sa.Float(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "kind"),
    )
    op.create_table(
        "round",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("cleaned", sa.Boolean(), nullable=False),
        sa.Column("live_at", sa.Float(), nullable=True),
        sa.Column("closed_at", sa.Float(), nullable=True),
        sa.Column("has_model", sa.Boolean(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=True),
        sa.Column("labels", sa.Integer(), nullable=True),
        sa.Column("holdout_size", sa.Integer(), nullable=True),
        sa.Column("holdout_correct", sa.Integer(), nullable=True),
        sa.Column("agreement", sa.Float(), nullable=True),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "number"),
    )
    op.create_table(
        "task",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Float(), nullable=True),
        sa.Column("pool_index", sa.Integer(), nullable=True),
        sa.Column("answer", sa.String(length=8), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.Column("recorded_loss", sa.Float(), nullable=True),
        sa.Column("recorded_batch", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "task_id"),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index("task_by_answer", ["project_id", "answer"], unique=False)
        batch_op.create_index("task_by_pool_index", ["project_id", "pool_index"], unique=True)
        batch_op.create_index("task_by_state", ["project_id", "state"], unique=False)
