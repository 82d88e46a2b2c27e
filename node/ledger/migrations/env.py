"""What alembic runs: the migrations, inside the transaction that the ledger opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=False,
)
context.run_migrations()
