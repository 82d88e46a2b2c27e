"""The ledger's database: opened, checked, migrated; one kind of transaction to read or write."""

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from node.errors import LedgerError
from node.ledger.backup import back_up
from node.ledger.prepared import run_text

#: Everything that SQLAlchemy lends to the rest of the node is among these names.
__all__ = [
    "Connection",
    "DBAPIError",
    "Engine",
    "insert_missing",
    "is_file",
    "is_locked_or_full",
    "open_ledger",
    "reading",
]

logger = logging.getLogger(__name__)

_BUSY_SECONDS = 30.0


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
    address = _address(url)
    shown = address.render_as_string(hide_password=True)
    file = _file(address)
    if file is not None and not migrate and not file.exists():
        raise LedgerError(f"no ledger at {shown}: start the node once, its main process makes it")
    engine = _engine(address)
    try:
        if migrate:
            _migrate(engine, file)
        _require_revision(engine, shown)
    except DBAPIError as error:
        engine.dispose()
        raise LedgerError(f"the ledger {shown} cannot be opened: {error.orig}") from error
    except LedgerError:
        engine.dispose()
        raise
    return engine


def is_locked_or_full(error: Exception) -> bool:
    """Return whether a ledger in a file has failed, and not what was to enter it."""
    return isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.OperationalError)


def is_file(engine: Engine) -> bool:
    """Return whether the ledger is a file, which processes of this machine alone write."""
    return engine.dialect.name == "sqlite"


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one consistent state and never waits for a writer."""
    with engine.connect() as connection:
        yield connection.execution_options(pellucid_reads_only=True)


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows whose key does not exist yet, also beside another writer."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
    else:
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise LedgerError("the ledger's address is not an SQLAlchemy URL") from error
    if address.get_backend_name() not in {"sqlite", "postgresql"}:
        raise LedgerError(f"the ledger is SQLite or PostgreSQL, not {address.drivername}")
    return address


def _file(address: URL) -> Path | None:
    is_file = address.get_backend_name() == "sqlite" and address.database is not None
    return Path(str(address.database)) if is_file else None


def _engine(address: URL) -> Engine:
    if address.get_backend_name() != "sqlite":
        engine = create_engine(
            address,
            hide_parameters=True,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            pool_size=16,
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    engine = create_engine(
        address,
        # Errors may be logged, and values are of patients.
        hide_parameters=True,
        pool_size=16,
        max_overflow=64,
        connect_args={"timeout": _BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # Off, a commit returns before it is on disk, and what was acknowledged may be lost; whatever
    # else a database is set to stays.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions begin in ``_begin_sqlite`` and nowhere else.
    connection.isolation_level = None
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once, without waiting, when
    # another has written in between: whoever may write takes the lock at the start.
    reads_only = connection.get_execution_options().get("pellucid_reads_only", False)
    run_text(connection, "BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", "node.ledger:migrations")
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _head() -> str | None:
    return ScriptDirectory.from_config(_scripts()).get_current_head()


def _require_revision(engine: Engine, shown: str) -> None:
    with reading(engine) as connection:
        found = _revision(connection)
    if found != _head():
        raise LedgerError(
            f"the ledger {shown} is at revision {found or 'none'}, this program needs {_head()}: "
            "start the node's main process of the same version once"
        )


def _migrate(engine: Engine, file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    with reading(engine) as connection:
        found = _revision(connection)
    _refuse_newer(found)
    if found == _head():
        return
    if found is not None:
        _save(engine, file, found)
    with engine.begin() as connection:
        scripts = _scripts()
        scripts.attributes["connection"] = connection
        command.upgrade(scripts, "head")


def _save(engine: Engine, file: Path | None, found: str) -> None:
    """Copy the ledger before it is migrated, or say how a person would have to."""
    head = _head() or ""
    if file is not None:
        copy = back_up(file, found=found, head=head)
        extra = {"event": "ledger_copied", "revision": found, "copy": str(copy)}
        logger.info("the ledger is copied, then brought up to date", extra=extra)
        return
    logger.warning(
        "the ledger is brought up to date in one transaction and is not copied by this program: "
        "whoever wants to be able to go back saves it before an upgrade",
        extra={
            "event": "ledger_not_copied",
            "revision": found,
            "command": dump_command(engine.url, found),
        },
    )


def dump_command(address: URL, revision: str) -> str:
    """Return the line that saves a PostgreSQL ledger; the password comes from elsewhere."""
    plain = address.set(drivername="postgresql", password=None).render_as_string()
    return f"pg_dump --format=custom --file=ledger-{revision}.dump {plain}"


def ledger_file(url: str) -> Path | None:
    """Return the file of an SQLite ledger; None if it is PostgreSQL."""
    return _file(_address(url))


def _refuse_newer(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_scripts()).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(
            f"the ledger is at revision {found}, which this version does not know: "
            "it was written by a newer one"
        )
