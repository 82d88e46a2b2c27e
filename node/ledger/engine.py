"""The ledger's database: opened, checked, migrated; one kind of transaction to read or write."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine


def open_ledger(url: str, *, migrate: bool = False) -> Engine:
    """Return the engine of an existing ledger at the revision of this program.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:////absolute/path`` or ``postgresql+psycopg://...``.
    migrate
        Create it or bring it up to date, after a backup beside the file. Only the main process
        does; the others take what they find.

    Raises
    ------
    LedgerError
        It cannot be opened, or is at another revision.
    """
    raise NotImplementedError


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one consistent state and never waits for a writer."""
    raise NotImplementedError
