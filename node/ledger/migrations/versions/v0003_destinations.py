"""What destinations take, what each object is, and who is still to be told of a failure."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_UID = sa.String(64)


def upgrade() -> None:
    """Add a table and columns; of objects that are made already only their UIDs are known.

    No task that ended before counts as untold: nobody wants to hear of it now.
    """
    op.create_table(
        "accepted",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", _UID, nullable=False),
        sa.Column("transfer_syntaxes", sa.JSON(), nullable=False),
        sa.Column("learnt", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid", name=op.f("pk_accepted")),
    )
    for name in ("untold", "superseded"):
        flag: sa.Column[bool] = sa.Column(
            name, sa.Boolean(), nullable=False, server_default=sa.false()
        )
        op.add_column("task", flag)
        op.create_index(op.f(f"ix_task_{name}"), "task", [name])
    for name, kind in (
        ("result", sa.Text()),
        ("series_instance_uid", _UID),
        ("model", sa.Text()),
        ("model_version", sa.Text()),
    ):
        op.add_column("artifact", sa.Column(name, kind, nullable=False, server_default=""))
    op.add_column("artifact", sa.Column("withdrawn", sa.DateTime(timezone=True)))
    op.create_index(op.f("ix_audit_study_instance_uid"), "audit", ["study_instance_uid"])


def downgrade() -> None:
    """Drop what was added."""
    op.drop_index(op.f("ix_audit_study_instance_uid"), "audit")
    for name in ("withdrawn", "model_version", "model", "series_instance_uid", "result"):
        op.drop_column("artifact", name)
    for name in ("untold", "superseded"):
        op.drop_index(op.f(f"ix_task_{name}"), "task")
        op.drop_column("task", name)
    op.drop_table("accepted")
