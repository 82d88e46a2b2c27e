"""Opening the ledger: made, migrated with a backup, or refused in one sentence."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import StatementError

from node.errors import LedgerError
from node.ledger import files, schema, studies, tasks
from node.ledger.engine import open_ledger, reading
from node.task import Priority, StudyState
from tests.build_ledger import ledger_url, new_ledger
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


@pytest.mark.parametrize(
    ("of_the_database", "of_the_node"), [("off", "on"), ("on", "on"), ("local", "local")]
)
def test_a_commit_on_a_server_waits_for_its_disk_whatever_the_database_is_set_to(
    database_server, of_the_database, of_the_node
):
    url = database_server.new_database()
    name = make_url(url).database
    database_server.run(
        "psql",
        "-q",
        name,
        "-c",
        f"ALTER DATABASE {name} SET synchronous_commit = {of_the_database}",
    )

    engine = open_ledger(url, migrate=True)
    with engine.begin() as connection, engine.begin() as another:
        found = [one.scalar(text("SHOW synchronous_commit")) for one in (connection, another)]
    engine.dispose()

    assert found == [of_the_node] * 2


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


#: What the first version wrote; later ones have added columns with a value of their own.
FIRST_ROWS = (
    "INSERT INTO study (study_instance_uid, patient_id, state, generation, revision, "
    "first_arrival, last_arrival, completed, quarantine_reason) VALUES ('1.2.3', 'P1', "
    "'complete', 1, 1, :at, :at, :at, '')",
    "INSERT INTO series VALUES ('1.2.3', '1.2.3.4', :at)",
    "INSERT INTO instance (id, sop_instance_uid, study_instance_uid, series_instance_uid, "
    "sop_class_uid, transfer_syntax_uid, patient_id, tags, sha256, pixels_sha256, path, "
    "generation, arrived) VALUES (1, '1.2.3.4.1', '1.2.3', '1.2.3.4', '1.2', '1.2.1', 'P1', "
    "'{}', :hash, '', '/data/a', 1, :at)",
    "INSERT INTO reception (id, sop_instance_uid, study_instance_uid, sha256, called_ae, "
    "calling_ae, address, at, path, meaning) VALUES (1, '1.2.3.4.1', '1.2.3', :hash, 'PELLUCID', "
    "'CT1', '10.0.0.1', :at, '/data/a', 'new')",
)
FIRST_TASK = (
    "INSERT INTO task (id, key, study_instance_uid, generation, route, config_hash, priority, "
    "state, attempt, deaths, token, worker, not_before, error, created, changed) VALUES "
    "(:id, :key, '1.2.3', 1, :key, :hash, :priority, 'ready', 0, 0, 0, '', :at, '', :at, :at)"
)


def scripts(connection):
    """Return the migrations, as alembic wants them."""
    found = Config()
    found.set_main_option("script_location", "node.ledger:migrations")
    found.attributes["connection"] = connection
    return found


def ledger_of(url, revision):
    """Make a ledger of an earlier revision, with a study of two tasks in it."""
    engine = create_engine(url)
    moment = "2026-01-02 03:04:05.000000"
    values = {"at": moment, "hash": "ab" * 32}
    with engine.begin() as connection:
        # What was dropped later is written before.
        command.upgrade(scripts(connection), min(revision, "0005"))
        for row in FIRST_ROWS:
            connection.execute(text(row), values)
        for number, priority in ((1, Priority.ROUTINE), (2, Priority.STAT)):
            task = {"id": number, "key": f"route-{number}", "priority": int(priority)}
            connection.execute(text(FIRST_TASK), values | task)
        if revision >= "0005":
            # Until then a task has no turn; without one given it is long ago.
            connection.execute(text("UPDATE task SET turn = created WHERE key = 'route-1'"))
        if connection.dialect.name == "postgresql":
            # Rows with ids of their own do not move the sequence: the next one would be 1 again.
            for table in ("instance", "reception", "task"):
                query = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 100)"
                connection.execute(text(query))
        command.upgrade(scripts(connection), revision)
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "0005", "0006"])
def test_a_ledger_of_every_earlier_revision_is_brought_up_to_date_with_all_that_it_holds(
    no_ledger, revision
):
    ledger_of(no_ledger, revision)

    engine = open_ledger(no_ledger, migrate=True)

    stat, routine = (tasks.claim(engine, "w", datetime.now(UTC)) for _ in range(2))
    missing = files.missing_files(engine)
    stands = studies.state(engine, "1.2.3")
    with reading(engine) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    engine.dispose()
    assert differences == []
    assert [(stat.id, stat.explained), (routine.id, routine.explained)] == [(2, ()), (1, ())]
    assert (missing, stands) == ((Path("/data/a"),), StudyState.COMPLETE)


def test_for_an_earlier_program_what_does_not_conform_counts_no_more(no_ledger):
    ledger_of(no_ledger, "0005")
    open_ledger(no_ledger, migrate=True).dispose()
    engine = create_engine(no_ledger)

    with engine.begin() as connection:
        connection.execute(text("UPDATE instance SET nonconformance = 'an item is not closed'"))
        command.downgrade(scripts(connection), "0005")
        rows = connection.execute(text("SELECT replaced_in, pixels_sha256 FROM instance")).all()
    engine.dispose()
    open_ledger(no_ledger, migrate=True).dispose()

    assert [tuple(row) for row in rows] == [(0, "")]


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
