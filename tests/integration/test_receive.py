"""The receiver over a real socket: what it takes, what it refuses, and with which status."""

import logging
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest
from blake3 import blake3
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from sqlalchemy import select

from node.doorman import AllowedPeer
from node.errors import ConfigError, LedgerError, PortInUseError
from node.ledger import instances, schema, studies
from node.ledger.engine import open_ledger, reading
from node.listening import open_sockets
from node.proposals import Proposals
from node.receive import serve
from node.task import StudyState
from tests.build_ledger import ledger_url
from tests.build_wire import (
    DEVICE_UID,
    VERIFICATION,
    encoded,
    image,
    receive_settings,
    receiver,
    recorder_thread,
    sender,
    store,
    store_bytes,
)
from tests.fault.pdu import (
    COMMAND,
    ECHO_CONTEXT,
    LAST,
    P_DATA,
    Connection,
    associate_rq,
    echo_command,
    elements_of,
    fragment,
    p_data,
    store_pdus,
)
from tests.peers import require
from tests.wait import until

LOCAL = AllowedPeer(ae_title="CT1", host="127.0.0.1")


@pytest.fixture
def port(tmp_path):
    with receiver(receive_settings(tmp_path)) as port:
        yield port


@pytest.fixture
def ledger(tmp_path, port):
    engine = open_ledger(ledger_url(tmp_path))
    yield engine
    engine.dispose()


def stored_files(data):
    """Return the files with something in them: no spares."""
    return sorted(
        path for path in (data / "objects").rglob("*") if path.is_file() and path.stat().st_size
    )


def receptions(ledger):
    with reading(ledger) as connection:
        return connection.execute(select(schema.reception).order_by(schema.reception.c.id)).all()


def test_what_is_acknowledged_is_whole_on_disk_and_in_the_ledger(port, ledger):
    sent = image()

    with sender(port, called="XAI_HEAD") as association:
        assert store(association, sent) == 0x0000

    (kept,) = instances.of_study(ledger, "1.2.3")
    content = kept.path.read_bytes()
    assert content.endswith(encoded(sent))
    assert blake3(content).hexdigest() == kept.path.stem
    assert dcmread(kept.path) == sent
    (reception,) = studies.receptions(ledger, "1.2.3")
    assert (reception.called_ae, reception.calling_ae) == ("XAI_HEAD", "CT1")
    assert reception.address == "127.0.0.1"


def test_the_same_instance_from_two_senders_is_stored_once(port, ledger, tmp_path):
    for calling in ("CT1", "PACS"):
        with sender(port, calling=calling) as association:
            assert store(association, image()) == 0x0000

    assert [row.meaning for row in receptions(ledger)] == ["new", "duplicate"]
    assert len(stored_files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("lie", "status"),
    [
        ({"uid": "1.2.3.4.999"}, 0xA900),
        ({"uid": "../../../etc/cron.d/x"}, 0x0117),
        ({"uid": "1.2..3"}, 0x0117),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, 0xA900),
    ],
)
def test_a_command_that_contradicts_its_data_set_is_refused(port, tmp_path, lie, status):
    with sender(port) as association:
        assert store_bytes(association, encoded(image()), **{"uid": "1.2.3.4.1", **lie}) == status

    assert stored_files(tmp_path) == []


def test_a_path_in_the_data_set_reaches_no_path(port, tmp_path):
    evil = "../../../../tmp/x"
    content = encoded(image()).replace(b"1.2.3.4.1\0", b"../../../x")

    with sender(port) as association:
        assert store_bytes(association, content, "1.2.3.4.1") == 0x0117
        assert store_bytes(association, content, evil) == 0x0117

    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        encoded(image(PixelData=bytes(2048 - 200))),
        encoded(image())[:-200],
        encoded(image(StudyInstanceUID="")),
        b"this is no data set at all",
    ],
    ids=["short pixels", "cut", "no study", "garbage"],
)
def test_a_data_set_that_cannot_be_understood_is_refused(port, tmp_path, content):
    with sender(port) as association:
        assert store_bytes(association, content, "1.2.3.4.1") == 0xC000
        assert store(association, image("1.2.3.4.2")) == 0x0000

    assert len(stored_files(tmp_path)) == 1


def test_the_log_says_what_is_wrong_with_a_refused_instance(port, caplog):
    with sender(port) as association:
        store(association, image(PixelData=b"12"))

    (record,) = [one for one in caplog.records if one.event == "instance_refused"]
    assert record.reason == (
        "StructureError: pixel data has 2 bytes, its description asks for 2048"
    )


def test_two_patients_in_one_study_are_both_kept_and_the_study_stops(port, ledger, tmp_path):
    with sender(port) as association:
        assert store(association, image()) == 0x0000
        assert store(association, image(patient_id="CANARY-2")) == 0x0000

    assert studies.state(ledger, "1.2.3") is StudyState.QUARANTINED
    assert len(stored_files(tmp_path)) == 2


def test_what_we_made_is_acknowledged_and_never_becomes_work(port, ledger):
    ours = Dataset()
    ours.DeviceUID = DEVICE_UID
    result = image(ContributingEquipmentSequence=Sequence([ours]))

    with sender(port) as association:
        assert store(association, result) == 0x0000

    assert [row.meaning for row in receptions(ledger)] == ["ours"]
    assert studies.state(ledger, "1.2.3") is None


def test_an_unknown_called_title_is_rejected(port):
    with sender(port, called="SOMEONE") as association:
        assert association.is_rejected
        assert association.acceptor.primitive.diagnostic == 0x07


def test_an_unknown_sender_is_rejected_unless_its_title_and_address_are_a_peers(tmp_path):
    with receiver(receive_settings(tmp_path, accept_unknown=False, peers=(LOCAL,))) as port:
        with sender(port, calling="STRANGER") as stranger:
            assert stranger.is_rejected
            assert stranger.acceptor.primitive.diagnostic == 0x03
        with sender(port) as friend:
            assert store(friend, image()) == 0x0000


def test_the_right_title_from_the_wrong_address_is_rejected(tmp_path):
    elsewhere = AllowedPeer(ae_title="CT1", host="192.0.2.1")

    settings = receive_settings(tmp_path, accept_unknown=False, peers=(elsewhere,))
    with receiver(settings) as port, sender(port) as association:
        assert association.is_rejected


def test_a_peer_that_may_only_echo_cannot_store(tmp_path):
    peer = AllowedPeer(ae_title="CT1", host="127.0.0.1", store=False)

    settings = receive_settings(tmp_path, accept_unknown=False, peers=(peer,))
    with receiver(settings) as port, sender(port) as association:
        assert association.send_c_echo().Status == 0x0000
        assert [c.abstract_syntax for c in association.accepted_contexts] == [VERIFICATION]


def test_a_peer_without_an_address_is_told_and_harms_nobody(tmp_path, caplog):
    nowhere = AllowedPeer(ae_title="CT2", host="no-such-host.invalid")

    settings = receive_settings(tmp_path, accept_unknown=False, peers=(nowhere, LOCAL))
    with receiver(settings) as port, sender(port) as association:
        assert association.is_established

    assert "host of a peer is unknown" in caplog.text


def test_a_receiver_that_stops_takes_no_more_and_lets_the_sender_finish(tmp_path):
    stop, ready = threading.Event(), threading.Event()
    sockets = open_sockets("127.0.0.1", 0)
    port = sockets.port
    settings = receive_settings(tmp_path)
    with recorder_thread(settings) as recorder:
        thread = threading.Thread(
            target=serve,
            args=(settings, sockets, stop, recorder),
            kwargs={"ready": ready.set},
            daemon=True,
        )
        thread.start()
        assert ready.wait(30)

        with sender(port) as association:
            assert store(association, image()) == 0x0000
            stop.set()
            until(lambda: not is_admitted(port), seconds=20)
            assert store(association, image("1.2.3.4.2")) == 0x0000
        thread.join(20)

    assert not thread.is_alive()


def test_under_the_floor_the_sender_is_asked_to_come_back(tmp_path):
    settings = receive_settings(tmp_path, floor_bytes=1 << 62)
    with receiver(settings) as port, sender(port) as association:
        assert store(association, image()) == 0xA700

    assert stored_files(tmp_path) == []


def test_one_address_cannot_take_all_connections(tmp_path):
    with receiver(receive_settings(tmp_path, max_unknown_associations=2)) as port:
        with sender(port) as first, sender(port) as second, sender(port) as third:
            assert first.is_established
            assert second.is_established
            assert not third.is_established
        until(lambda: is_admitted(port), seconds=20)


def is_admitted(port):
    with sender(port) as association:
        return association.is_established


def test_a_monstrous_pdu_is_closed_after_its_head(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\x01\x00\xff\xff\xff\xff")
        answer = connection.recv(100)
        while answer:
            answer = connection.recv(100)

    with sender(port) as association:
        assert association.is_established


def test_a_port_in_use_is_one_clear_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortInUseError, match=r"port \d+ on 127\.0\.0\.1 is in use"):
            open_sockets("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_clear_sentence():
    with pytest.raises(ConfigError, match=r"cannot listen on port 0 on 192\.0\.2\.1"):
        open_sockets("192.0.2.1", 0)


def test_without_a_ledger_nothing_is_received(tmp_path):
    settings = receive_settings(tmp_path / "a", database=ledger_url(tmp_path / "b"))

    with pytest.raises(LedgerError, match="no ledger"), receiver(settings):
        pass


def test_a_dead_ledger_is_a_temporary_refusal(ledger, tmp_path):
    # Of two receivers neither answers for what is not in the ledger.
    with receiver(receive_settings(tmp_path, receivers=2)) as port:
        with ledger.begin() as connection:
            schema.reception.drop(connection)

        with sender(port) as association:
            assert store(association, image()) == 0xA700


def test_what_was_answered_for_before_a_ledger_died_is_in_it_when_it_is_back(port, ledger, caplog):
    with ledger.begin() as connection:
        schema.reception.drop(connection)

    with sender(port) as association:
        first = store(association, image("1.2.3.4.1"))
        until(lambda: "cannot be brought into store and ledger" in caplog.text, seconds=30)
        second = store(association, image("1.2.3.4.2"))
        with ledger.begin() as connection:
            schema.reception.create(connection)
        third = store(association, image("1.2.3.4.3"))

    assert (first, second, third) == (0x0000, 0xA700, 0x0000)
    known = [one.sop_instance_uid for one in instances.of_study(ledger, "1.2.3")]
    assert known == ["1.2.3.4.1", "1.2.3.4.3"]


def test_nothing_of_the_patient_reaches_the_log(port, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    with sender(port) as association:
        store(association, image())
        store(association, image(patient_id="CANARY-2"))
        store(association, image("1.2.3.4.2", PixelData=b"12"))
        store_bytes(association, encoded(image()), "1.2.3")

    printed = capfd.readouterr()
    told = caplog.text + str([vars(record) for record in caplog.records])
    assert "instance refused" in told
    assert "CANARY" not in (told + printed.out + printed.err).upper()


def test_an_echo_in_fragments_is_answered_and_what_is_no_command_ends_at_once(port):
    pieces = [echo_command(1)[at : at + 24] for at in range(0, 72, 24)]
    last = len(pieces) - 1
    with Connection(port, "127.0.0.1", 10) as connection:
        assert connection.associate()
        for number, piece in enumerate(pieces):
            flags = COMMAND | LAST if number == last else COMMAND
            connection.send(p_data(fragment(ECHO_CONTEXT, flags, piece)))
        assert connection.status() == 0x0000

        for number, piece in enumerate(pieces):
            flags = COMMAND | LAST if number == last else COMMAND
            connection.send(p_data(fragment(ECHO_CONTEXT, flags, piece)))
        connection.send(p_data(fragment(ECHO_CONTEXT, COMMAND | LAST, b"no command")))
        for pdu in store_pdus(image(), message=3, size=333):
            connection.send(pdu)
        statuses = []
        while (answer := connection.read()) is not None and answer[0] == P_DATA:
            statuses.append(elements_of(answer[1][6:])[0x0100])

    # The echo may be answered, but nothing that came behind the breach.
    assert struct.pack("<H", 0x8001) not in statuses


def test_a_request_to_associate_amid_an_association_ends_it_and_is_not_remembered(
    port, monkeypatch
):
    remembered = []
    decoded = Proposals.decoded

    def watched(proposals, pdu):
        remembered.append(pdu)
        return decoded(proposals, pdu)

    monkeypatch.setattr(Proposals, "decoded", watched)
    with Connection(port) as connection:
        assert connection.associate()
        assert not connection.associate(calling="CT9")

    assert remembered == [associate_rq()]


def test_the_receiver_loads_no_torch():
    program = "import sys, node.receive; print('torch' in sys.modules, 'highdicom' in sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert answer.stdout.split() == ["False", "False"]


@pytest.mark.peers
@pytest.mark.parametrize("option", ["-xe", "-xi", "-xb"])
def test_dcmtk_stores_in_every_native_syntax_that_is_offered(port, ledger, tmp_path, option):
    storescu = require("/usr/bin/storescu", "apt install dcmtk")
    file = tmp_path / "in.dcm"
    image().save_as(file, enforce_file_format=False, implicit_vr=False, little_endian=True)
    made = dcmread(file, force=True)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.save_as(file, enforce_file_format=True)

    answer = subprocess.run(
        [storescu, option, "-aec", "PELLUCID", "127.0.0.1", str(port), file],
        check=False,
        capture_output=True,
        env={**os.environ, "TCP_NODELAY": "1"},
    )

    assert answer.returncode == 0
    until(lambda: instances.of_study(ledger, "1.2.3"), seconds=10)
    (kept,) = instances.of_study(ledger, "1.2.3")
    assert dcmread(kept.path).PixelData == image().PixelData
