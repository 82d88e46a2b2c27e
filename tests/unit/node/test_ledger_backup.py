"""An upgrade can be undone, and what came since is named and kept."""

import logging
import os
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, make_url, text

from dicom_io.header import read_header
from node import store
from node.cli import main
from node.errors import LedgerError
from node.ledger import backup
from node.ledger.engine import dump_command, open_ledger
from node.ownership import only_node
from node.task import Reception
from tests.build_config import write_config
from tests.build_ledger import ledger_url, record_arrival, write_instance
from tests.unit.node.test_ledger_engine import ledger_of


@pytest.fixture
def config(tmp_path):
    folder = write_config(tmp_path, routes="", node='[node]\ndata = "data"\n')
    (folder / "data").mkdir()
    return folder


@pytest.fixture
def pellucid(capsys, config):
    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "-c", str(config)])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def plainly(file, query):
    """Ask a ledger as any program would, whatever its revision."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def upgraded(data):
    """Bring a ledger of an earlier revision up to date, and receive something; return its file."""
    ledger_of(ledger_url(data), "0003")
    return receive(data, ledger_url(data))


def receive(data, database):
    """Bring a ledger up to date, and receive something; return its file."""
    engine = open_ledger(database, migrate=True)
    stored = store.keep(data, write_instance(data / "sent", "1.2.826.1.7.1"))
    reception = Reception(
        called_ae="PELLUCID", calling_ae="CT1", address="10.0.0.1", at=datetime.now(UTC)
    )
    record_arrival(engine, read_header(stored.path), reception, digest=stored.digest)
    engine.dispose()
    return stored.path


def test_an_upgrade_is_undone_and_the_earlier_revision_is_whole_again(config, pellucid):
    data = config / "data"
    upgraded(data)

    code, _, _ = pellucid("ledger", "restore", "--yes")

    ledger = data / "ledger.sqlite"
    assert code == 0
    assert plainly(ledger, "SELECT version_num FROM alembic_version") == [("0003",)]
    assert plainly(ledger, "PRAGMA integrity_check") == [("ok",)]
    assert plainly(ledger, "SELECT sop_instance_uid FROM instance") == [("1.2.3.4.1",)]
    assert plainly(ledger, "SELECT count(*) FROM task WHERE state = 'ready'") == [(2,)]
    columns = [row[1] for row in plainly(ledger, "PRAGMA table_info(instance)")]
    assert "expired" not in columns


def test_what_was_received_since_is_told_and_its_files_outlive_the_return(config, pellucid):
    data = config / "data"
    received = upgraded(data)

    told = pellucid("ledger", "restore", "--dry-run")[1]
    said = pellucid("ledger", "restore", "--yes")[1]
    received.unlink()  # as the earlier version's sweep of orphans would

    kept = list((data / "received-after-0003").iterdir())
    for words in (told, said):
        assert "received since: 1 instances of 1 studies, all acknowledged" in " ".join(
            words.split()
        )
    assert [read_header(path).sop_instance_uid for path in kept] == ["1.2.826.1.7.1"]
    replaced = data / "ledger.sqlite.replaced-0007"
    assert ("1.2.826.1.7.1",) in plainly(replaced, "SELECT sop_instance_uid FROM instance")


def test_after_a_return_the_upgrade_can_be_made_again(config, pellucid):
    data = config / "data"
    upgraded(data)
    pellucid("ledger", "restore", "--yes")

    engine = open_ledger(ledger_url(data), migrate=True)
    engine.dispose()

    rows = plainly(data / "ledger.sqlite", "SELECT version_num FROM alembic_version")
    assert rows == [("0007",)]


def test_a_dry_run_changes_nothing_and_a_running_node_is_not_touched(config, pellucid):
    data = config / "data"
    upgraded(data)
    pellucid("ledger", "restore", "--dry-run")

    with only_node(data):
        code, _, complaint = pellucid("ledger", "restore", "--yes")

    assert (code, "another node works on" in complaint) == (1, True)
    assert plainly(data / "ledger.sqlite", "SELECT version_num FROM alembic_version") == [("0007",)]
    assert not (data / "received-after-0003").exists()


def test_without_a_copy_there_is_no_way_back(config, pellucid):
    open_ledger(ledger_url(config / "data"), migrate=True).dispose()

    code, _, complaint = pellucid("ledger", "restore", "--yes")

    assert (code, "there is no copy" in complaint) == (1, True)


def test_a_ledger_that_finds_no_room_for_its_copy_is_not_touched(tmp_path):
    ledger_of(ledger_url(tmp_path), "0004")

    with pytest.raises(LedgerError, match="nothing was changed"):
        backup.back_up(tmp_path / "ledger.sqlite", found="0004", head="0005", free_bytes=1000)

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_only_the_newest_three_copies_stay(tmp_path):
    ledger_of(ledger_url(tmp_path), "0004")
    ledger = tmp_path / "ledger.sqlite"
    for number in range(1, 6):
        copy = backup.back_up(ledger, found="0004", head=f"{number:04d}")
        os.utime(copy, (number, number))

    names = [each.path.name for each in backup.copies(ledger)]

    assert names == [f"ledger.sqlite.before-000{number}" for number in (5, 4, 3)]


@pytest.fixture
def served(database_server, config):
    """The URL of a ledger of an earlier revision, on a server that the configuration names."""
    url = database_server.new_database()
    ledger_of(url, "0004")
    table = f'[node]\ndata = "data"\ndatabase = "{url}"\n'
    (config / "node.toml").write_text(
        (config / "node.toml").read_text().replace('[node]\ndata = "data"\n', table)
    )
    return url


def saved_by_the_line(database_server, url, folder):
    """Run the line that an upgrade tells; return the dump."""
    line = dump_command(make_url(url), "0004")
    _, *words = shlex.split(line.replace("--file=", f"--file={folder}/"))
    database_server.run("pg_dump", *words)
    return folder / "ledger-0004.dump"


def test_an_upgrade_on_a_server_is_undone_by_its_dump_in_a_database_of_its_own(
    database_server, config, pellucid, served, tmp_path
):
    data, name = config / "data", f"{make_url(served).database}_before"
    dump = saved_by_the_line(database_server, served, tmp_path)
    received = receive(data, served)

    database_server.run("createdb", name)
    database_server.run("pg_restore", f"--dbname={name}", dump)
    told = pellucid("ledger", "restore", "--from", name, "--dry-run")[1]
    untouched = not (data / "received-after-0004").exists()
    code, said, _ = pellucid("ledger", "restore", "--from", name, "--yes")
    received.unlink()  # as the earlier version's sweep of orphans would

    kept = list((data / "received-after-0004").iterdir())
    assert (code, untouched) == (0, True)
    for words in (told, said):
        assert "received since: 1 instances of 1 studies, all acknowledged" in words
    assert f'set node.database to "{served}_before"' in said
    assert [read_header(path).sop_instance_uid for path in kept] == ["1.2.826.1.7.1"]
    assert uids(f"{served}_before") == ["1.2.3.4.1"]
    assert uids(served) == ["1.2.3.4.1", "1.2.826.1.7.1"]
    # The earlier version may be upgraded again, like any other.
    open_ledger(f"{served}_before", migrate=True).dispose()


def uids(url):
    """Return the instances of a ledger, whatever its revision."""
    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("SELECT sop_instance_uid FROM instance ORDER BY sop_instance_uid")
        found = connection.scalars(query).all()
    engine.dispose()
    return found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["copies"], "which this program does not copy"),
        (["restore", "--yes"], "pellucid ledger restore --from DATABASE"),
        (["restore", "--from", "nowhere", "--yes"], "cannot be compared"),
        (["restore", "--from", "postgres", "--yes"], "cannot be compared"),
    ],
)
def test_without_an_earlier_ledger_on_the_server_nothing_is_done(pellucid, served, words, sentence):
    before = uids(served)

    code, _, complaint = pellucid("ledger", *words)

    assert (code != 0, sentence in complaint) == (True, True)
    assert uids(served) == before


def test_the_ledger_itself_is_no_copy_of_it(pellucid, served):
    name = make_url(served).database

    code, _, complaint = pellucid("ledger", "restore", "--from", name, "--yes")

    assert (code, "is the ledger itself" in complaint) == (2, True)


def test_a_ledger_on_a_server_is_upgraded_with_the_line_that_would_have_saved_it(
    database_server, caplog
):
    url = database_server.new_database()
    ledger_of(url, "0004")

    with caplog.at_level(logging.WARNING):
        engine = open_ledger(url, migrate=True)

    line = dump_command(engine.url.set(password="secret"), "0004")
    engine.dispose()
    (record,) = [each for each in caplog.records if getattr(each, "event", "").startswith("ledger")]
    assert record.command.startswith(
        "pg_dump --format=custom --file=ledger-0004.dump postgresql://"
    )
    assert "secret" not in line
