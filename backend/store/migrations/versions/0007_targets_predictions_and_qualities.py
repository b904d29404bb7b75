"""Targets and predictions as JSON, qualities instead of counts of right answers, names of their own for two tables.

The two large tables are changed in place: columns are renamed rather than copied, so that their indices stay.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

VALUES = 100  # texts that one UPDATE converts, in one pass over the table


def upgrade() -> None:
    """Bring the schema to this revision."""
    _convert_tasks_and_asks()
    _convert_rounds()
    with op.batch_alter_table("project", recreate="never") as batch_op:
        batch_op.drop_column("tab_id")
        batch_op.drop_column("tab_version")
    op.rename_table("final", "autolabel_order")
    op.rename_table("tally", "task_counts")
    op.execute("UPDATE job SET kind = 'autolabel' WHERE kind = 'final'")
    # Answers that could not be learned before, such as several classes an image, are read again.
    op.execute("UPDATE project SET cursor = NULL")


def _convert_tasks_and_asks() -> None:
    with op.batch_alter_table("task", recreate="never") as batch_op:
        batch_op.alter_column("label", new_column_name="target")
    with op.batch_alter_table("ask", recreate="never") as batch_op:
        batch_op.alter_column("label", new_column_name="prediction")
        batch_op.add_column(sa.Column("quality", sa.Float(), nullable=True))
        batch_op.create_index("ask_by_task", ["project_id", "task_id", "state", "round"], unique=False)
    _to_json("task", "target")
    _to_json("ask", "prediction")
    op.execute(
        "UPDATE ask SET quality = ("
        "SELECT CASE WHEN task.target = ask.prediction THEN 1.0 ELSE 0.0 END FROM task "
        "WHERE task.project_id = ask.project_id AND task.task_id = ask.task_id "
        "AND task.answer = 'labeled' AND task.target IS NOT NULL"
        ") WHERE prediction IS NOT NULL"
    )


def _to_json(table: str, name: str) -> None:
    """Convert every text of a column to JSON.

    The JSON of one text can be another text of the column ("cat" in quotes): it is longer, so that the longest texts
    are converted first.
    """
    column: sa.ColumnClause[str] = sa.column(name, sa.Text())
    rows = sa.table(table, column)
    connection = op.get_bind()
    texts = connection.scalars(sa.select(column).where(column.is_not(None)).distinct()).all()
    longest_first = sorted(texts, key=len, reverse=True)
    for start in range(0, len(longest_first), VALUES):
        part = longest_first[start : start + VALUES]
        converted = sa.case({text: json.dumps(text, ensure_ascii=False) for text in part}, value=column, else_=column)
        connection.execute(sa.update(rows).where(column.in_(part)).values({name: converted}))


def _convert_rounds() -> None:
    with op.batch_alter_table("round", recreate="never") as batch_op:
        for name in ("holdout_quality", "holdout_squares", "holdout_change", "holdout_change_squares"):
            batch_op.add_column(sa.Column(name, sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("decoding", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("problem", sa.String(length=32), nullable=False, server_default="single_label"))
    # Qualities of 0 and 1 are their own squares.
    op.execute(
        "UPDATE round SET holdout_quality = holdout_correct, holdout_squares = holdout_correct, "
        "holdout_change = holdout_gained - holdout_lost, holdout_change_squares = holdout_gained + holdout_lost"
    )
    with op.batch_alter_table("round", recreate="never") as batch_op:
        for name in ("holdout_correct", "holdout_gained", "holdout_lost"):
            batch_op.drop_column(name)
