"""Content is known by BLAKE3, not by SHA-256 any more."""

from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = ("instance", "reception", "instance_conflict")


def upgrade() -> None:
    """Call the column what it is: of what is there already it holds the other hash."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN sha256 TO digest")


def downgrade() -> None:
    """Undo it."""
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN digest TO sha256")
