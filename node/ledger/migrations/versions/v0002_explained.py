"""What became of a task's explanations stands beside the task."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; of tasks that are done already nothing is known."""
    column = sa.Column("explained", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("task", column)


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("task", "explained")
