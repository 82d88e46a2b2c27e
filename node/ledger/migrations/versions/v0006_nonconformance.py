"""What is wrong with an instance that was kept although it does not conform."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_INDEX = "ix_instance_study_instance_uid"


def upgrade() -> None:
    """Add a column, with an index of the few that have a value in it, and drop one that never had.

    So far everything conforms.
    """
    op.add_column("instance", sa.Column("nonconformance", sa.Text()))
    only = sa.text("nonconformance IS NOT NULL")
    op.create_index(
        op.f(_INDEX), "instance", ["study_instance_uid"], sqlite_where=only, postgresql_where=only
    )

    op.drop_column("instance", "pixels_sha256")


def downgrade() -> None:
    """Undo it; what does not conform counts no more, so that nobody analyzes it."""
    op.execute(
        "UPDATE instance SET replaced_in = 0 "
        "WHERE nonconformance IS NOT NULL AND replaced_in IS NULL"
    )
    op.drop_index(op.f(_INDEX), "instance")
    op.drop_column("instance", "nonconformance")
    # SQLite adds no column without a value for the rows that are there.
    op.add_column(
        "instance", sa.Column("pixels_sha256", sa.String(64), nullable=False, server_default="")
    )
