"""Values of a patient that nobody can mistake: after everything has gone wrong, where are they?"""

import json
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread

from node.commands.status import node_status, study_status
from node.config import Peer
from node.peer import send_files
from node.standin import StandInPacs
from tests.build_wire import image
from tests.fakes import NodeProcess, ball_config, ball_files, bright_bundle, kill
from tests.fault.fuzzing import make_case, play
from tests.fault.pdu import (
    COMMAND,
    ECHO_CONTEXT,
    LAST,
    STORE_CONTEXT,
    Connection,
    associate_rq,
    command_set,
    fragment,
    in_fragments,
    p_data,
    release_rq,
    store_command,
    store_pdus,
)

pytestmark = pytest.mark.fault

PATIENT = {
    "PatientName": "Kanarienvögel^Yolanda",
    "PatientID": "KANARI8086ID",
    "PatientBirthDate": "19371123",
    "AccessionNumber": "ACC77889900",
    "ReferringPhysicianName": "Zeisigmann^Otto",
    "OtherPatientIDs": "OTHER5544ID",
}
#: The columns in which the ledger knows who a patient is.
IDENTITY = {("instance", "patient_id"), ("instance", "tags"), ("study", "patient_id"),
            ("instance_conflict", "patient_id")}  # fmt: skip


def test_no_value_of_a_patient_is_anywhere_but_in_the_store_and_in_the_ledger(
    tmp_path, monkeypatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    files = canary_files(tmp_path / "study")
    bundle = bright_bundle(tmp_path / "bundle")
    data = tmp_path / "data"

    with (
        StandInPacs(tmp_path / "pacs", ae_title="PACS") as pacs,
        NodeProcess(data, bundle, {"pacs": pacs.port}) as node,
    ):
        deliver(node, pacs, files)
        refuse(node)
        quarrel(node)
        break_lines(node)
        kill(node.pids_of("node.inference")[0])
        spoil_the_ledger(data)
        node.until(lambda: "Traceback" in node.log or "File " in node.log)
        mend_the_ledger(data)
        told = status_of_everything(data, bundle, pacs.port)
        assert node.stop() == 0

    assert "instance_refused" in node.log
    assert "conflict" in node.log
    assert hits_in_files(tmp_path) == []
    assert hits_in_ledger(data) == []
    assert found_in(told.encode()) == []
    # They are where they belong: this test can see them.
    assert any(found_in(path.read_bytes()) for path in (data / "objects").rglob("*.dcm"))


def canary_files(folder):
    paths = ball_files(folder)
    for path in paths:
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for name, value in PATIENT.items():
            setattr(dataset, name, value)
        dataset.save_as(path)
    return paths


def canary_image(uid, **changes):
    return image(uid, **{**PATIENT, "SpecificCharacterSet": "ISO_IR 192", **changes})


def deliver(node, pacs, files):
    peer = Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=node.port)
    assert {one.status for one in send_files(peer, files, calling_ae="MODALITY")} == {0x0000}
    node.until(lambda: len(pacs.received) >= 2)


def refuse(node):
    """Send what contradicts itself: short pixels, another UID, no UIDs, cut in a name."""
    short = canary_image("1.2.3.4.5", PixelData=b"12")
    assert said(node, *store_pdus(short)) == 0xC000
    content = store_pdus(canary_image("1.2.3.4.6"))[1:]
    command = p_data(fragment(STORE_CONTEXT, COMMAND | LAST, store_command("1.2.3.4.7")))
    assert said(node, command, *content) == 0xA900
    value = PATIENT["PatientName"].encode()
    command = p_data(fragment(STORE_CONTEXT, COMMAND | LAST, store_command("1.2.3.4.7")))
    assert said(node, command, *in_fragments(STORE_CONTEXT, 0, value, 99)) == 0xC000
    name = store_command(PATIENT["PatientID"])
    command = p_data(fragment(STORE_CONTEXT, COMMAND | LAST, name))
    assert said(node, command, *content) == 0x0117


def quarrel(node):
    """Send two patients under one study."""
    assert said(node, *store_pdus(canary_image("1.2.9.1", study="1.2.9"))) == 0x0000
    other = canary_image("1.2.9.1", study="1.2.9", PatientID=PATIENT["OtherPatientIDs"])
    assert said(node, *store_pdus(other)) == 0x0000


def break_lines(node):
    """Send commands that are none, with the patient in them, and mutations of a whole exchange."""
    value = PATIENT["PatientName"].encode().ljust(24)
    for elements in ({0x0002: value}, {0x0100: value, 0x0800: value}, {0x0110: value}):
        with Connection(node.port) as connection:
            assert connection.associate(calling="MODALITY")
            for context in (STORE_CONTEXT, ECHO_CONTEXT):
                connection.send(p_data(fragment(context, COMMAND | LAST, command_set(elements))))
            connection.wire.shutdown(1)
            connection.until_closed()
    exchange = [
        associate_rq(calling="MODALITY"),
        *store_pdus(canary_image("2.25.1000000000"), size=300),
        release_rq(),
    ]
    cases = [make_case(4711, number, [exchange]) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(play, cases, [node.port] * 40, ["127.0.0.1"] * 40))


def said(node, *pdus):
    with Connection(node.port) as connection:
        assert connection.associate(calling="MODALITY")
        connection.send(*pdus)
        status = connection.status()
        connection.release()
        return status


def spoil_the_ledger(data):
    with closing(sqlite3.connect(data / "ledger.sqlite", timeout=30)) as ledger:
        ledger.execute("ALTER TABLE study RENAME TO lost")


def mend_the_ledger(data):
    with closing(sqlite3.connect(data / "ledger.sqlite", timeout=30)) as ledger:
        ledger.execute("ALTER TABLE lost RENAME TO study")


def status_of_everything(data, bundle, port):
    config = ball_config(data, bundle, {"pacs": port})
    now = datetime.now(UTC)
    whole = node_status(config, now)
    told = [whole.node, whole.tables, study_status(config, "1.2.9", now)]
    return json.dumps(told, default=str, ensure_ascii=False)


def needles():
    """Yield each value, and each word of a name, in the encodings it may be written in."""
    words = {word for value in PATIENT.values() for word in value.split("^")}
    for word in sorted(words):
        for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
            yield word, word.encode(encoding)
        yield word, json.dumps(word).strip('"').encode()
        yield word, ascii(word).strip("'").encode()


def found_in(content):
    folded = content.lower()
    return sorted({word for word, needle in needles() if needle.lower() in folded})


def hits_in_files(folder):
    """Return what is found outside the store, the ledger, and what the test itself has made."""
    own = [folder / "study", folder / "pacs", folder / "bundle", folder / "data" / "objects"]
    return [
        (str(path.relative_to(folder)), found_in(path.read_bytes()))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(path.is_relative_to(one) for one in own)
        and not path.name.startswith("ledger.sqlite")
        and (found_in(path.read_bytes()) or found_in(os.fsencode(path.name)))
    ]


def hits_in_ledger(data: Path):
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        tables = [
            row[0] for row in ledger.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        found = []
        for table in tables:
            rows = ledger.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in rows.description]
            found += [
                (table, column, found_in(str(value).encode()))
                for row in rows
                for column, value in zip(columns, row, strict=True)
                if (table, column) not in IDENTITY and found_in(str(value).encode())
            ]
    return found
