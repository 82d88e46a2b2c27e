"""What destinations say of objects that they have taken: kept for good, or found again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TIME = sa.DateTime(timezone=True)
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_UID = sa.String(64)


def upgrade() -> None:
    """Create two tables; of what is delivered already nobody is asked."""
    op.create_table(
        "confirmation",
        sa.Column("delivery_id", _ROW_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", _UID, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("resent", sa.Integer(), nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_confirmation_delivery_id_delivery")
        ),
        sa.PrimaryKeyConstraint("delivery_id", "kind", name=op.f("pk_confirmation")),
    )
    op.create_index(
        op.f("ix_confirmation_kind_confirmation_state_confirmation_not_before"),
        "confirmation",
        ["kind", "state", "not_before"],
    )
    op.create_table(
        "commitment_request",
        sa.Column("transaction_uid", _UID, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("asked", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_commitment_request")),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("commitment_request")
    op.drop_table("confirmation")
