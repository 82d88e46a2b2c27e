"""One thread that reads many connections: each PDU by PDU, none waited for."""

import socket
import time
from contextlib import closing
from queue import Queue

import pytest

from node.intake import Intake
from node.upper_layer import P_DATA, ProtocolError, Wire, pdu_head
from tests.wait import until

SOON = 30.0


class Association:
    """One that is read, and the peer's end of its connection."""

    def __init__(self):
        ours, self.peer = socket.socketpair()
        self.wire = Wire(ours)
        self.wire.wait_no_more()
        self.taken, self.ends = [], Queue()
        self.wanted = False
        self.failure = None

    def take(self, kind, body):
        if self.failure is not None:
            raise self.failure
        self.taken.append((kind, bytes(body)))
        return True

    def is_wanted(self):
        return self.wanted

    def end(self, failure):
        self.ends.put(failure)

    def close(self):
        self.peer.close()
        self.wire.close()


@pytest.fixture
def association():
    with closing(Association()) as association:
        yield association


@pytest.fixture
def other():
    with closing(Association()) as association:
        yield association


@pytest.fixture
def intake():
    with closing(Intake()) as intake:
        yield intake


def pdu(content, kind=P_DATA):
    return pdu_head(kind, len(content)) + content


def test_pdus_are_taken_as_they_come(intake, association):
    intake.read(association)

    association.peer.sendall(pdu(b"first") + pdu(b"") + pdu(b"third", kind=5))

    until(lambda: len(association.taken) == 3, seconds=SOON)
    assert association.taken == [(P_DATA, b"first"), (P_DATA, b""), (5, b"third")]


def test_a_pdu_that_comes_byte_by_byte_is_taken_when_it_is_whole(intake, association, other):
    intake.read(association)
    intake.read(other)

    whole = pdu(b"slow")
    for number in range(len(whole)):
        assert association.taken == []
        association.peer.sendall(whole[number : number + 1])
        # Meanwhile the others are read.
        other.peer.sendall(pdu(b"quick"))
        until(lambda: len(other.taken) == number + 1, seconds=SOON)  # noqa: B023

    until(lambda: association.taken, seconds=SOON)
    assert association.taken == [(P_DATA, b"slow")]


def test_what_never_pauses_keeps_no_other_waiting(intake, association, other):
    association.take = lambda kind, body: bool(association.peer.send(pdu(b"again")))
    intake.read(association)
    intake.read(other)

    association.peer.sendall(pdu(b"again"))
    other.peer.sendall(pdu(b"quick"))

    until(lambda: other.taken, seconds=SOON)


def test_what_lies_decrypted_where_the_system_does_not_see_it_is_read(intake, association):
    hidden = [(P_DATA, memoryview(b"hidden"))]
    association.wire.is_pending = lambda: bool(hidden)
    association.wire.next_pdu = lambda: hidden.pop() if hidden else None

    intake.read(association)

    until(lambda: association.taken == [(P_DATA, b"hidden")], seconds=SOON)


def test_a_peer_that_closes_ends_its_association_alone(intake, association, other):
    intake.read(association)
    intake.read(other)

    association.peer.sendall(pdu(b"cut")[:7])
    association.peer.close()

    assert isinstance(association.ends.get(timeout=SOON), ConnectionResetError)
    other.peer.sendall(pdu(b"still here"))
    until(lambda: other.taken, seconds=SOON)


def test_a_pdu_that_is_too_long_is_a_breach_from_its_head_on(intake, association):
    intake.read(association)

    association.peer.sendall(pdu_head(P_DATA, 0xFFFFFFFF))

    failure = association.ends.get(timeout=SOON)
    assert isinstance(failure, ProtocolError)
    assert "4294967295" in str(failure)


def test_whoever_fails_to_take_is_told_and_read_no_more(intake, association, other):
    association.failure = MemoryError()
    intake.read(association)
    intake.read(other)

    association.peer.sendall(pdu(b"too much") + pdu(b"more"))

    assert association.ends.get(timeout=SOON) is association.failure
    other.peer.sendall(pdu(b"still here"))
    until(lambda: other.taken, seconds=SOON)
    assert association.ends.empty()


def test_who_is_wanted_elsewhere_is_handed_over_and_can_be_read_again(intake, association):
    intake.read(association)

    association.wanted = True
    assert association.ends.get(timeout=SOON) is None
    association.wanted = False
    association.peer.sendall(pdu(b"later"))
    assert association.taken == []

    intake.read(association)
    until(lambda: association.taken, seconds=SOON)


def test_silence_and_slowness_have_their_limits(association):
    association.wire.expect_next()
    association.wire.require_progress(time.monotonic() + 29)
    with pytest.raises(ProtocolError, match="nothing came for 30 s"):
        association.wire.require_progress(time.monotonic() + 31)

    association.peer.sendall(pdu(b"begun")[:3])
    assert association.wire.next_pdu() is None
    association.wire.require_progress(time.monotonic() + 19)
    with pytest.raises(ProtocolError, match="too slow"):
        association.wire.require_progress(time.monotonic() + 21)


def test_bytes_that_drip_do_not_buy_time(association):
    whole = pdu(bytes(100))
    association.peer.sendall(whole[:1])
    association.wire.next_pdu()
    begun = time.monotonic()

    for number in range(1, len(whole) - 1):
        association.peer.sendall(whole[number : number + 1])
        assert association.wire.next_pdu() is None

    with pytest.raises(ProtocolError, match="too slow"):
        association.wire.require_progress(begun + 20.5)


def test_answers_that_nobody_reads_end_in_an_error(association):
    def answer_for_ever():
        while True:
            association.wire.send(bytes(1000))

    with pytest.raises(OSError, match=r"unread|unavailable"):
        answer_for_ever()
