"""What strangers and broken devices do to the port: others are served, and nothing is left over."""

import logging
import os
import shutil
import struct
import threading
import time

import pytest

from node.doorman import AllowedPeer
from node.log import LogStyle
from node.receivers import start_receivers
from node.spawned import Birth
from tests.build_wire import EXPLICIT, MR_IMAGE, VERIFICATION, encoded, image, receive_settings
from tests.fault.conftest import HONEST, new_uid
from tests.fault.crowd import crowd
from tests.fault.kept import known_datasets
from tests.fault.pdu import (
    ABORT,
    ASSOCIATE_RQ,
    COMMAND,
    ECHO_CONTEXT,
    IMPLICIT,
    LAST,
    P_DATA,
    RELEASE_RQ,
    STORE_CONTEXT,
    Connection,
    abort,
    associate_rq,
    echo_command,
    fragment,
    in_fragments,
    p_data,
    pdu,
    release_rq,
    responses,
    store_command,
    store_pdus,
    user_identity,
)
from tests.wait import until

ATTACKER = "127.0.0.2"
MONSTROUS = 0xFFFFFFFF
LONGEST_WAIT = 2.0
#: What a process may grow by without having kept anything.
NOTHING_MB = 16.0


def seconds_of(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_a_crowd_from_one_address_keeps_nobody_else_out(target):
    with crowd(target.port, ATTACKER, silent=200, starting=200, dripping=64):
        waits = [seconds_of(target.serves) for _ in range(1, 21)]

    assert max(waits) <= LONGEST_WAIT
    target.has_nothing_left_over()


@pytest.mark.fault
@pytest.mark.parametrize("peer", [True, False], ids=["a peer", "nobody's"])
def test_a_crowd_is_shown_out_while_it_still_stands_there(start, peer):
    peers = (AllowedPeer(ae_title="CT1", host=ATTACKER if peer else "127.0.0.98"),)
    target = start(peers=peers)

    with crowd(target.port, ATTACKER, silent=200, starting=200, dripping=64):
        waits = [seconds_of(target.serves) for _ in range(1, 101)]
        target.has_nothing_left_over(seconds=30)

    assert max(waits) <= LONGEST_WAIT


@pytest.mark.fault
def test_a_pdu_that_drips_ends_its_association_within_25_seconds(target):
    uid = new_uid()
    command = p_data(fragment(STORE_CONTEXT, COMMAND | LAST, store_command(uid)))
    large = p_data(fragment(STORE_CONTEXT, 0, bytes(4096)))
    with Connection(target.port, ATTACKER) as slow:
        assert slow.associate()
        assert slow.send(command)
        begun = time.monotonic()

        dripping = iter(large)
        while slow.send(bytes([next(dripping)])) and time.monotonic() < begun + 40:
            slow.wire.settimeout(2)
            try:
                if slow.read() is None:
                    break
            except TimeoutError:
                continue

        assert time.monotonic() - begun < 25
    target.has_nothing_left_over()


@pytest.mark.parametrize(
    "claimed",
    [MONSTROUS, *(pytest.param(n, marks=pytest.mark.fault) for n in (1 << 30, (1 << 16) + 1))],
)
def test_a_monstrous_pdu_before_any_association_is_closed_after_its_head(target, claimed):
    before = target.now.memory_mb
    for _ in range(20):
        with Connection(target.port, ATTACKER) as connection:
            connection.send(pdu(ASSOCIATE_RQ, b"", length=claimed))
            wait = seconds_of(connection.until_closed)
            assert wait <= LONGEST_WAIT

    assert target.now.memory_mb - before < NOTHING_MB
    target.serves()
    target.has_nothing_left_over()


@pytest.mark.parametrize("kind", [P_DATA, RELEASE_RQ, ABORT, ASSOCIATE_RQ, 0x99])
def test_a_monstrous_pdu_in_an_association_is_closed_after_its_head(target, kind):
    before = target.now.memory_mb
    for _ in range(10):
        with Connection(target.port, ATTACKER) as connection:
            assert connection.associate()
            connection.send(pdu(kind, b"", length=MONSTROUS))
            wait = seconds_of(connection.until_closed)
            assert wait <= LONGEST_WAIT

    assert target.now.memory_mb - before < NOTHING_MB
    target.serves()
    target.has_nothing_left_over()


def test_a_command_set_without_end_fills_no_memory(target):
    before = target.now.memory_mb
    piece = p_data(fragment(STORE_CONTEXT, COMMAND, bytes(1 << 15)))

    with Connection(target.port, ATTACKER) as connection:
        assert connection.associate()
        taken = 0
        while taken < 2000 and connection.send(piece):
            taken += 1

    assert taken < 2000, "64 MB of one command set were taken"
    assert target.now.memory_mb - before < NOTHING_MB
    target.serves()
    target.has_nothing_left_over()


@pytest.mark.fault
def test_a_data_set_beyond_all_room_is_refused_and_fills_neither_memory_nor_disk(start, tmp_path):
    target = start(floor_bytes=shutil.disk_usage(tmp_path).free - (256 << 20))
    piece = p_data(fragment(STORE_CONTEXT, 0, bytes(1 << 17)))

    with Connection(target.port, ATTACKER, 60) as connection:
        assert connection.associate()
        connection.send(COMMAND_PDU)
        for _ in range(8 << 10):
            assert connection.send(piece)
        connection.send(p_data(fragment(STORE_CONTEXT, LAST, b"")))
        assert target.now.memory_mb - target.before.memory_mb < 64
        assert connection.status() == 0xA700

    target.has_nothing_left_over()
    target.serves()


def test_fifty_parallel_senders_of_one_peer_are_all_served(start):
    target = start(accept_unknown=False, peers=(AllowedPeer(ae_title="CT1", host=HONEST),))

    sent = stored_in_parallel(target.port)

    target.keeps(sent)
    assert target.now.memory_mb < 300
    target.has_nothing_left_over()


def test_fifty_parallel_senders_are_all_served_whichever_receiver_takes_them(tmp_path):
    settings = receive_settings(
        tmp_path, accept_unknown=False, peers=(AllowedPeer(ae_title="CT1", host=HONEST),)
    )
    birth = Birth(parent_pid=os.getpid(), log_level=logging.WARNING, log_style=LogStyle.TEXT)
    sockets, receivers = start_receivers(settings, birth, count=2)

    try:
        sent = stored_in_parallel(sockets.port)
    finally:
        for receiver in receivers:
            receiver.process.kill()
            receiver.process.join(20)
        sockets.close()

    assert {encoded(one) for one in sent} <= known_datasets(tmp_path)


def stored_in_parallel(port):
    """Return what fifty senders of one address have sent at once, all of it acknowledged."""
    sent = {number: [image(new_uid()) for _ in range(3)] for number in range(50)}
    statuses = {}
    together = threading.Barrier(50)

    def send(number):
        together.wait(30)
        with Connection(port, HONEST, 60) as connection:
            admitted = connection.associate()
            together.wait(60)
            statuses[number] = [connection.store(one) for one in sent[number]] if admitted else None

    threads = [threading.Thread(target=send, args=(number,)) for number in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == dict.fromkeys(sent, [0x0000] * 3)
    return [one for series in sent.values() for one in series]


def test_a_sender_that_reads_no_answers_harms_only_itself(target):
    before = target.now.memory_mb

    with Connection(target.port, ATTACKER, 3) as deaf:
        assert deaf.associate()
        asked = 0
        while asked < 2000 and deaf.send(p_data(ECHO)):
            asked += 1
        target.serves()
        assert target.now.memory_mb - before < 64

    target.has_nothing_left_over()


def test_what_is_acknowledged_to_a_sender_that_does_not_wait_is_stored(target):
    sent = {number: image(new_uid()) for number in range(1, 31)}
    acknowledged = []

    def flood(connection):
        for number, dataset in sent.items():
            if not connection.send(*store_pdus(dataset, message=number)):
                return

    with Connection(target.port, ATTACKER) as hasty:
        assert hasty.associate()
        sending = threading.Thread(target=flood, args=(hasty,))
        sending.start()
        while len(acknowledged) < len(sent) and (answer := hasty.read()) is not None:
            elements = responses(answer[1])
            assert elements[0x0900] == b"\0\0"
            acknowledged.append(struct.unpack("<H", elements[0x0120])[0])
        sending.join(30)

    assert acknowledged == sorted(acknowledged)
    target.keeps([sent[number] for number in acknowledged])
    target.serves()
    target.has_nothing_left_over()


def test_128_presentation_contexts_are_negotiated(target):
    uid = new_uid()
    contexts = [(2 * n + 1, MR_IMAGE, (EXPLICIT,)) for n in range(127)]

    with Connection(target.port, ATTACKER) as connection:
        assert connection.associate(contexts=[*contexts, (255, VERIFICATION, (IMPLICIT,))])
        connection.send(p_data(fragment(255, COMMAND | LAST, echo_command())))
        assert connection.status() == 0x0000
        connection.send(p_data(fragment(253, COMMAND | LAST, store_command(uid))))
        connection.send(*in_fragments(253, 0, encoded(image(uid)), 999))
        assert connection.status() == 0x0000

    target.keeps([image(uid)])
    target.has_nothing_left_over()


def test_a_user_identity_of_a_thousand_bytes_is_no_credential_and_no_harm(target):
    with Connection(target.port, ATTACKER) as connection:
        assert connection.associate(more=user_identity(b"x" * 1000))
        assert connection.echo() == 0x0000

    target.has_nothing_left_over()


COMMAND_PDU = p_data(fragment(STORE_CONTEXT, COMMAND | LAST, store_command("1.2.3.4.1")))
DATA_PDUS = in_fragments(STORE_CONTEXT, 0, encoded(image("1.2.3.4.1")), 512)
ECHO = fragment(ECHO_CONTEXT, COMMAND | LAST, echo_command())
#: Breaches of PS3.7 and PS3.8 after which nothing can be meant by the association any more.
BREACHES = {
    "a context that nobody accepted": [p_data(fragment(77, COMMAND | LAST, echo_command()))],
    "an even context": [p_data(fragment(2, COMMAND | LAST, echo_command()))],
    "a data set before its command": DATA_PDUS,
    "two commands in a row": [COMMAND_PDU, COMMAND_PDU],
    "a command in the middle of a data set": [COMMAND_PDU, DATA_PDUS[0], COMMAND_PDU],
    "a release in the middle of a data set": [COMMAND_PDU, *DATA_PDUS[:2], release_rq()],
    "a release in the middle of a command": [
        p_data(fragment(STORE_CONTEXT, COMMAND, store_command("1.2.3.4.1")[:20])),
        release_rq(),
    ],
    "an abort in the middle of a data set": [COMMAND_PDU, *DATA_PDUS[:2], abort()],
    "an association in an association": [associate_rq()],
    "a data set in another context": [COMMAND_PDU, p_data(fragment(ECHO_CONTEXT, LAST, b"12"))],
    "a fragment longer than its PDU": [p_data(fragment(ECHO_CONTEXT, LAST, b"12", length=2000))],
    "a fragment shorter than its head": [p_data(fragment(ECHO_CONTEXT, LAST, b"", length=1))],
    "a P-DATA of nothing": [p_data()],
    "a P-DATA of three bytes": [pdu(P_DATA, b"\0\0\0")],
    "a PDU of no kind": [pdu(0x42, b"1234")],
    "a command that is no command set": [
        p_data(fragment(STORE_CONTEXT, COMMAND | LAST, b"\xff" * 99))
    ],
    "an empty command": [p_data(fragment(STORE_CONTEXT, COMMAND | LAST, b""))],
    "a rejection from who asked": [pdu(0x03, b"\0\1\1\1")],
    "an answer to nothing": [pdu(0x02, associate_rq()[6:])],
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_protocol_stores_nothing_and_ends_alone(target, breach):
    already = list(target.data.rglob("*.dcm"))

    with Connection(target.port, ATTACKER, 40) as connection, Connection(target.port) as honest:
        assert honest.associate(calling="CT2")
        assert connection.associate()
        connection.send(*BREACHES[breach])
        connection.wire.shutdown(1)
        connection.until_closed()
        assert list(target.data.rglob("*.dcm")) == already
        assert honest.echo() == 0x0000

    target.serves()
    target.has_nothing_left_over()


@pytest.mark.parametrize("length", [0, 4, 1 << 20, MONSTROUS])
def test_a_command_of_another_group_length_is_answered_truly_or_not_at_all(target, length):
    uid = new_uid()
    sent = image(uid)
    command = store_command(uid, group_length=length)

    with Connection(target.port, ATTACKER, 40) as connection:
        assert connection.associate()
        connection.send(p_data(fragment(STORE_CONTEXT, COMMAND | LAST, command)))
        connection.send(*in_fragments(STORE_CONTEXT, 0, encoded(sent), 8192))
        status = connection.status()

    if status == 0x0000:
        target.keeps([sent])
    target.serves()
    target.has_nothing_left_over()


def test_command_and_data_set_in_one_pdu_are_one_message(target):
    uid = new_uid()
    sent = image(uid)
    command = fragment(STORE_CONTEXT, COMMAND | LAST, store_command(uid))

    with Connection(target.port, ATTACKER) as connection:
        assert connection.associate()
        connection.send(p_data(command, fragment(STORE_CONTEXT, LAST, encoded(sent))))
        assert connection.status() == 0x0000
        connection.send(p_data(ECHO))
        assert connection.status() == 0x0000
        assert connection.release()

    target.keeps([sent])


@pytest.mark.parametrize("size", [1, 7])
def test_a_message_in_the_smallest_fragments_is_one_message(target, size):
    uid = new_uid()
    sent = image(uid)
    command = store_command(uid)

    with Connection(target.port, ATTACKER) as connection:
        assert connection.associate()
        connection.send(*in_fragments(STORE_CONTEXT, COMMAND, command, size))
        connection.send(*in_fragments(STORE_CONTEXT, 0, encoded(sent), size))
        assert connection.status() == 0x0000

    target.keeps([sent])
    until(lambda: target.alive, seconds=1)
