"""Ledgers for the tests of the ledger: each test is run on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from node.ledger import schema
from node.ledger.engine import open_ledger
from tests.build_ledger import ledger_url, new_ledger
from tests.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def served_ledger(database_server) -> Iterator[Engine]:
    """A ledger on a server, for all tests of a session."""
    engine = open_ledger(database_server.new_database(), migrate=True)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def no_ledger(request, tmp_path) -> str:
    """Where no ledger is yet: an SQLAlchemy URL, once of a file and once on a server."""
    if request.param == "sqlite":
        return ledger_url(tmp_path)
    return request.getfixturevalue("database_server").new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path) -> Iterator[Engine]:
    """An empty ledger, once in a file and once on a server."""
    if request.param == "sqlite":
        engine = new_ledger(tmp_path)
        yield engine
        engine.dispose()
        return
    engine = request.getfixturevalue("served_ledger")
    tables = ", ".join(table.name for table in schema.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    yield engine
