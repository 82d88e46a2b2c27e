"""Whose files are gone, what can still be said of their study, and when each task has its turn."""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TIME = sa.DateTime(timezone=True)
_WITH_FILES = ("instance", "instance_conflict", "reception", "artifact")
#: As the ledger of this revision lets priorities wait: stat, urgent, routine, off-peak.
_WAITS = {
    0: timedelta(days=-36500),
    1: timedelta(0),
    2: timedelta(hours=4),
    3: timedelta(hours=24),
}


def upgrade() -> None:
    """Add columns; nothing is gone yet, and every task gets the turn that its priority gives it."""
    for table in ("study", *_WITH_FILES):
        op.add_column(table, sa.Column("expired", _TIME))
    op.add_column("study", sa.Column("header", sa.LargeBinary()))
    op.create_index(op.f("ix_reception_expired_reception_at"), "reception", ["expired", "at"])
    op.create_index(
        op.f("ix_artifact_expired_artifact_created"), "artifact", ["expired", "created"]
    )
    # SQLite adds no column without a value for the rows that are there.
    turn: sa.Column[object] = sa.Column(
        "turn", _TIME, nullable=False, server_default="1970-01-01 00:00:00.000000"
    )
    op.add_column("task", turn)
    _give_turns()
    op.drop_index(op.f("ix_task_state_task_priority_task_id"), "task")
    op.create_index(op.f("ix_task_state_task_turn_task_id"), "task", ["state", "turn", "id"])


def downgrade() -> None:
    """Drop what was added; what is gone stays so."""
    op.drop_index(op.f("ix_task_state_task_turn_task_id"), "task")
    op.create_index(
        op.f("ix_task_state_task_priority_task_id"), "task", ["state", "priority", "id"]
    )
    op.drop_column("task", "turn")
    op.drop_index(op.f("ix_artifact_expired_artifact_created"), "artifact")
    op.drop_index(op.f("ix_reception_expired_reception_at"), "reception")
    op.drop_column("study", "header")
    op.execute("UPDATE study SET state = 'complete' WHERE state = 'expired'")
    for table in ("study", *_WITH_FILES):
        op.drop_column(table, "expired")


def _give_turns() -> None:
    task = sa.table(
        "task",
        sa.column("id", sa.BigInteger()),
        sa.column("priority", sa.Integer()),
        sa.column("created", _TIME),
        sa.column("turn", _TIME),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(task.c.id, task.c.priority, task.c.created)).all()
    for row in rows:
        turn = row.created + _WAITS.get(row.priority, timedelta(0))
        connection.execute(sa.update(task).where(task.c.id == row.id).values(turn=turn))
