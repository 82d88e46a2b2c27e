"""The tables: what exists, and nothing about how it changes."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)


class UtcTime(TypeDecorator[datetime]):
    """A moment: aware UTC in Python, sortable UTC text in SQLite, timestamptz in PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC, without its zone where the database cannot hold one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone cannot enter the ledger: {value}")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 (named by SQLAlchemy)
    ) -> datetime | None:
        """Return the moment with its zone, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: SQLite gives row ids only to INTEGER; PostgreSQL needs more than 2**31 of them.
_RowId = BigInteger().with_variant(Integer, "sqlite")
#: UIDs are at most 64 characters (PS3.5 9.1).
_Uid = String(64)
_Hash = String(64)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

study = Table(
    "study",
    metadata,
    Column("study_instance_uid", _Uid, primary_key=True),
    Column("patient_id", Text, nullable=False),
    Column("state", String(16), nullable=False),
    # The newest generation that is complete; 0 before the first.
    Column("generation", Integer, nullable=False),
    # Counts the arrivals that change the study, so that completing sees whether it raced with one.
    Column("revision", Integer, nullable=False),
    Column("first_arrival", UtcTime, nullable=False),
    Column("last_arrival", UtcTime, nullable=False),
    Column("completed", UtcTime),
    # Empty unless quarantined.
    Column("quarantine_reason", Text, nullable=False),
    # When its files last went, and a small DICOM file of patient and study, for what must still be
    # said of it; null before.
    Column("expired", UtcTime),
    Column("header", LargeBinary),
    Index(None, "state", "last_arrival"),
)

series = Table(
    "series",
    metadata,
    Column("study_instance_uid", ForeignKey("study.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", _Uid, primary_key=True),
    Column("first_arrival", UtcTime, nullable=False),
)

# One row per version: other bytes under the same SOP Instance UID make a second row, so that a
# generation can always be read as it was.
instance = Table(
    "instance",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("sop_instance_uid", _Uid, nullable=False),
    Column("study_instance_uid", ForeignKey("study.study_instance_uid"), nullable=False),
    Column("series_instance_uid", _Uid, nullable=False),
    Column("sop_class_uid", _Uid, nullable=False),
    Column("transfer_syntax_uid", _Uid, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("digest", _Hash, nullable=False),
    Column("path", Text, nullable=False),
    # First generation that contains it; null while no complete generation does.
    Column("generation", Integer),
    # First generation that has a newer version in its place; null for the version that counts.
    Column("replaced_in", Integer),
    Column("arrived", UtcTime, nullable=False),
    # Since when this row needs its file no more, here and in the next two tables and in artifact;
    # null while it does.
    Column("expired", UtcTime),
    # What is wrong with its data set; null for what conforms. With a value it is never analyzed.
    Column("nonconformance", Text),
    UniqueConstraint("sop_instance_uid", "digest", name="uq_instance_sop_instance_uid_sha256"),
    Index(None, "study_instance_uid", "generation"),
    Index(None, "path"),
)
Index(
    None,
    instance.c.study_instance_uid,
    sqlite_where=instance.c.nonconformance.is_not(None),
    postgresql_where=instance.c.nonconformance.is_not(None),
)

# Every arrival, also of duplicates, conflicts and our own objects; append-only. This is the audit
# trail of what came in.
reception = Table(
    "reception",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("sop_instance_uid", _Uid, nullable=False),
    Column("study_instance_uid", _Uid, nullable=False),
    Column("digest", _Hash, nullable=False),
    Column("called_ae", String(16), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("path", Text, nullable=False),
    Column("meaning", String(16), nullable=False),
    Column("expired", UtcTime),
    Index(None, "study_instance_uid"),
    Index(None, "path"),
    Index(None, "expired", "at"),
)

instance_conflict = Table(
    "instance_conflict",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("sop_instance_uid", _Uid, nullable=False),
    Column("study_instance_uid", _Uid, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("digest", _Hash, nullable=False),
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("expired", UtcTime),
    UniqueConstraint(
        "sop_instance_uid", "digest", name="uq_instance_conflict_sop_instance_uid_sha256"
    ),
)

task = Table(
    "task",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("study_instance_uid", ForeignKey("study.study_instance_uid"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("route", Text, nullable=False),
    Column("config_hash", _Hash, nullable=False),
    Column("priority", Integer, nullable=False),
    # The earliest goes first: when the task was made, and as much later as its priority can wait.
    Column("turn", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    # Processes that died of it since a person last made it ready.
    Column("deaths", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease_until", UtcTime),
    Column("not_before", UtcTime, nullable=False),
    Column("error", Text, nullable=False),
    # One sentence for each explanation that was asked for, with its numbers; of the last result.
    Column("explained", JSON, nullable=False, server_default="[]"),
    # It ended without a result, and its destinations have not been told yet.
    Column("untold", Boolean, nullable=False, server_default=false()),
    # Something of what it made was superseded and has not been withdrawn yet.
    Column("superseded", Boolean, nullable=False, server_default=false()),
    Column("created", UtcTime, nullable=False),
    Column("changed", UtcTime, nullable=False),
    Index(None, "state", "turn", "id"),
    Index(None, "study_instance_uid"),
    Index(None, "untold"),
    Index(None, "superseded"),
)

# The history of every task, append-only; the first event of a task has no state before it.
task_event = Table(
    "task_event",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("task_id", ForeignKey("task.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("before", String(16)),
    Column("after", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("error", Text, nullable=False),
    Index(None, "task_id"),
)

# Every object that this node has made: how it is recognized when it comes back.
artifact = Table(
    "artifact",
    metadata,
    Column("sop_instance_uid", _Uid, primary_key=True),
    Column("task_id", ForeignKey("task.id"), nullable=False),
    Column("sop_class_uid", _Uid, nullable=False),
    Column("path", Text, nullable=False),
    Column("created", UtcTime, nullable=False),
    # Name of the result, as routes use it, or of a note; empty in rows of before revision 0003, as
    # are the next three.
    Column("result", Text, nullable=False, server_default=""),
    Column("series_instance_uid", _Uid, nullable=False, server_default=""),
    Column("model", Text, nullable=False, server_default=""),
    Column("model_version", Text, nullable=False, server_default=""),
    # When it was withdrawn: superseded by a later generation, or retracted by a person.
    Column("withdrawn", UtcTime),
    Column("expired", UtcTime),
    Index(None, "task_id"),
    Index(None, "path"),
    Index(None, "expired", "created"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("task_id", ForeignKey("task.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("sop_instance_uid", _Uid, nullable=False),
    Column("sop_class_uid", _Uid, nullable=False),
    Column("path", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
    Column("changed", UtcTime, nullable=False),
    UniqueConstraint("task_id", "destination", "sop_instance_uid"),
    Index(None, "destination", "state", "not_before"),
)

# What a destination is asked of an object that it has taken; a row for each question.
confirmation = Table(
    "confirmation",
    metadata,
    Column("delivery_id", ForeignKey("delivery.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("state", String(16), nullable=False),
    # Of the newest request for storage commitment that the object was in.
    Column("transaction_uid", _Uid),
    # Questions without a good answer since the object was last sent.
    Column("attempt", Integer, nullable=False),
    # How often the object was sent again because the destination did not have it.
    Column("resent", Integer, nullable=False),
    # When to ask; once asked, until when an answer is waited for.
    Column("not_before", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed", UtcTime, nullable=False),
    Index(None, "kind", "state", "not_before"),
)

# Every request for storage commitment: an answer may come late, to one that is not the newest.
commitment_request = Table(
    "commitment_request",
    metadata,
    Column("transaction_uid", _Uid, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("asked", UtcTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("event", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("study_instance_uid", _Uid),
    Column("detail", JSON, nullable=False),
    Index(None, "study_instance_uid"),
)

# What each destination was last found to take: a row for every SOP class that it was asked about.
accepted = Table(
    "accepted",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", _Uid, primary_key=True),
    # UIDs of transfer syntaxes; empty where it refused the SOP class.
    Column("transfer_syntaxes", JSON, nullable=False),
    Column("learnt", UtcTime, nullable=False),
)
