"""Opening the ledger: made, migrated with a backup, or refused in one sentence."""

import sqlite3
from contextlib import closing
from datetime import datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError

from node.errors import LedgerError
from node.ledger import schema, studies, tasks
from node.ledger.engine import open_ledger, reading
from node.task import State
from tests.build_ledger import ledger_url, new_ledger, ready_task
from tests.unit.node.test_ledger_instances import STUDY, make_instance, receive


@pytest.fixture
def ledger(tmp_path):
    new_ledger(tmp_path).dispose()
    return tmp_path / "ledger.sqlite"


def set_revision(ledger, revision):
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


def test_the_migrations_make_exactly_the_tables_of_the_schema(no_ledger):
    engine = open_ledger(no_ledger, migrate=True)

    with reading(engine) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    engine.dispose()

    assert differences == []


def test_sqlite_survives_a_power_cut_by_its_settings(tmp_path):
    engine = new_ledger(tmp_path)

    with reading(engine) as connection:
        found = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    engine = new_ledger(tmp_path)
    receive(engine, make_instance())

    with engine.begin() as writer:
        writer.execute(schema.study.update().values(state="quarantined"))
        seen = studies.state(engine, STUDY)
    after = studies.state(engine, STUDY)
    engine.dispose()

    assert (seen, after) == ("receiving", "quarantined")


def test_a_missing_ledger_is_not_made_by_whoever_does_not_migrate(tmp_path):
    with pytest.raises(LedgerError, match="no ledger at"):
        open_ledger(ledger_url(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_another_revision_is_refused(ledger, tmp_path):
    set_revision(ledger, "0000")

    with pytest.raises(LedgerError, match=r"is at revision 0000, this program needs"):
        open_ledger(ledger_url(tmp_path))


def test_a_ledger_of_a_newer_version_is_left_as_it_is(ledger, tmp_path):
    set_revision(ledger, "9999")

    with pytest.raises(LedgerError, match="written by a newer one"):
        open_ledger(ledger_url(tmp_path), migrate=True)


def test_opening_again_migrates_nothing(ledger, tmp_path):
    engine = open_ledger(ledger_url(tmp_path), migrate=True)
    engine.dispose()

    assert not list(tmp_path.glob("*.before-*"))


def test_the_ledger_is_copied_before_it_is_migrated(tmp_path, monkeypatch):
    engine = new_ledger(tmp_path)
    receive(engine, make_instance())
    engine.dispose()
    ledger = tmp_path / "ledger.sqlite"
    monkeypatch.setattr("node.ledger.engine._head", lambda: "0001-as-if-newer")

    with pytest.raises(LedgerError):
        open_ledger(ledger_url(tmp_path), migrate=True)

    (copy,) = tmp_path.glob("ledger.sqlite.before-*")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM instance").fetchone() == (1,)
    assert ledger.exists()


def test_a_ledger_of_the_first_revision_is_brought_up_to_date_with_all_its_tasks(
    no_ledger, tmp_path
):
    engine = open_ledger(no_ledger, migrate=True)
    task_id = ready_task(engine, tmp_path)
    scripts = Config()
    scripts.set_main_option("script_location", "node.ledger:migrations")
    with engine.begin() as connection:
        scripts.attributes["connection"] = connection
        command.downgrade(scripts, "0001")
    engine.dispose()

    engine = open_ledger(no_ledger, migrate=True)

    found = tasks.find(engine, task_id)
    engine.dispose()
    assert (found.state, found.explained) == (State.READY, ())


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("not a url", "not an SQLAlchemy URL"),
        ("mysql://host/x", "SQLite or PostgreSQL"),
        ("sqlite:////dev/null/ledger.sqlite", "no ledger at"),
    ],
)
def test_a_wrong_address_is_one_sentence(url, sentence):
    with pytest.raises(LedgerError, match=sentence):
        open_ledger(url)


def test_what_is_no_database_is_one_sentence(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database at all" * 100)

    with pytest.raises(LedgerError, match="cannot be opened"):
        open_ledger(ledger_url(tmp_path))


def test_a_moment_without_a_zone_never_enters(tmp_path):
    engine = new_ledger(tmp_path)
    naive = datetime(2026, 1, 1)  # noqa: DTZ001

    with reading(engine) as connection, pytest.raises(StatementError, match="time zone"):
        connection.execute(select(schema.study).where(schema.study.c.first_arrival < naive))
    engine.dispose()
