"""The first shape of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_UID_OR_HASH = sa.String(64)


def upgrade() -> None:
    """Create every table."""
    _create_study()
    _create_series()
    _create_instance()
    _create_reception()
    _create_instance_conflict()
    _create_task()
    _create_task_event()
    _create_artifact()
    _create_delivery()
    _create_audit()


def downgrade() -> None:
    """Drop every table."""
    for table in (
        "audit",
        "delivery",
        "artifact",
        "task_event",
        "task",
        "instance_conflict",
        "reception",
        "instance",
        "series",
        "study",
    ):
        op.drop_table(table)


def _create_study() -> None:
    op.create_table(
        "study",
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("first_arrival", _TIME, nullable=False),
        sa.Column("last_arrival", _TIME, nullable=False),
        sa.Column("completed", _TIME, nullable=True),
        sa.Column("quarantine_reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study")),
    )
    op.create_index(op.f("ix_study_state_study_last_arrival"), "study", ["state", "last_arrival"])


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("series_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("first_arrival", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name=op.f("fk_series_study_instance_uid_study"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "series_instance_uid", name=op.f("pk_series")
        ),
    )


def _create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("sop_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("series_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("sop_class_uid", _UID_OR_HASH, nullable=False),
        sa.Column("transfer_syntax_uid", _UID_OR_HASH, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("sha256", _UID_OR_HASH, nullable=False),
        sa.Column("pixels_sha256", _UID_OR_HASH, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("replaced_in", sa.Integer(), nullable=True),
        sa.Column("arrived", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name=op.f("fk_instance_study_instance_uid_study"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint(
            "sop_instance_uid", "sha256", name=op.f("uq_instance_sop_instance_uid_sha256")
        ),
    )
    op.create_index(op.f("ix_instance_path"), "instance", ["path"])
    op.create_index(
        op.f("ix_instance_study_instance_uid_instance_generation"),
        "instance",
        ["study_instance_uid", "generation"],
    )


def _create_reception() -> None:
    op.create_table(
        "reception",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("sop_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("sha256", _UID_OR_HASH, nullable=False),
        sa.Column("called_ae", sa.String(length=16), nullable=False),
        sa.Column("calling_ae", sa.String(length=16), nullable=False),
        sa.Column("address", _UID_OR_HASH, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("meaning", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reception")),
    )
    op.create_index(op.f("ix_reception_path"), "reception", ["path"])
    op.create_index(op.f("ix_reception_study_instance_uid"), "reception", ["study_instance_uid"])


def _create_instance_conflict() -> None:
    op.create_table(
        "instance_conflict",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("sop_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("sha256", _UID_OR_HASH, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_conflict")),
        sa.UniqueConstraint(
            "sop_instance_uid", "sha256", name=op.f("uq_instance_conflict_sop_instance_uid_sha256")
        ),
    )


def _create_task() -> None:
    op.create_table(
        "task",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("config_hash", _UID_OR_HASH, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("changed", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["study.study_instance_uid"],
            name=op.f("fk_task_study_instance_uid_study"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("key", name=op.f("uq_task_key")),
    )
    op.create_index(
        op.f("ix_task_state_task_priority_task_id"), "task", ["state", "priority", "id"]
    )
    op.create_index(op.f("ix_task_study_instance_uid"), "task", ["study_instance_uid"])


def _create_task_event() -> None:
    op.create_table(
        "task_event",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("task_id", _ROW_ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("before", sa.String(length=16), nullable=True),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_event_task_id_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_event")),
    )
    op.create_index(op.f("ix_task_event_task_id"), "task_event", ["task_id"])


def _create_artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("sop_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("task_id", _ROW_ID, nullable=False),
        sa.Column("sop_class_uid", _UID_OR_HASH, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_artifact_task_id_task")),
        sa.PrimaryKeyConstraint("sop_instance_uid", name=op.f("pk_artifact")),
    )
    op.create_index(op.f("ix_artifact_path"), "artifact", ["path"])
    op.create_index(op.f("ix_artifact_task_id"), "artifact", ["task_id"])


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("task_id", _ROW_ID, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", _UID_OR_HASH, nullable=False),
        sa.Column("sop_class_uid", _UID_OR_HASH, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_delivery_task_id_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint(
            "task_id",
            "destination",
            "sop_instance_uid",
            name=op.f("uq_delivery_task_id_destination_sop_instance_uid"),
        ),
    )
    op.create_index(
        op.f("ix_delivery_destination_delivery_state_delivery_not_before"),
        "delivery",
        ["destination", "state", "not_before"],
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("event", _UID_OR_HASH, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", _UID_OR_HASH, nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
