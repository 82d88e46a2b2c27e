"""The pipe between worker and child: whole messages or a named error, whatever arrives."""

import socket
import threading

import pytest

from node.channel import Channel, ChannelClosedError, ChannelProtocolError


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield Channel(left), right


def test_message_arrives_as_it_was_sent(pair):
    channel, wire = pair

    Channel(wire).send({"kind": "stage", "stage": "größe"})

    assert channel.receive(1.0) == {"kind": "stage", "stage": "größe"}


def test_message_in_pieces_is_put_together(pair):
    channel, wire = pair
    content = b'{"kind": "stage"}'
    whole = len(content).to_bytes(4, "big") + content

    def drip() -> None:
        for byte in whole:
            wire.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    message = channel.receive(5.0)
    thread.join()

    assert message == {"kind": "stage"}


def test_two_messages_in_one_piece_are_two(pair):
    channel, wire = pair
    other = Channel(wire)
    other.send({"n": 1})
    other.send({"n": 2})

    assert [channel.receive(1.0), channel.receive(1.0)] == [{"n": 1}, {"n": 2}]


def test_large_message_arrives(pair):
    channel, wire = pair
    text = "x" * 3_000_000
    thread = threading.Thread(target=Channel(wire).send, args=({"text": text},))
    thread.start()

    message = channel.receive(10.0)
    thread.join()

    assert message == {"text": text}


def test_nothing_in_time_is_none(pair):
    channel, _ = pair

    assert channel.receive(0.01) is None


def test_closed_other_side_is_an_error_for_both_directions(pair):
    channel, wire = pair
    wire.close()

    with pytest.raises(ChannelClosedError):
        channel.receive(1.0)
    with pytest.raises(ChannelClosedError):
        channel.send({"kind": "order"})


@pytest.mark.parametrize(
    "content",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{x", b"\x00\x00\x00\x02[]"],
    ids=["too long", "not JSON", "not an object"],
)
def test_what_is_no_message_is_refused(pair, content):
    channel, wire = pair
    wire.sendall(content)

    with pytest.raises(ChannelProtocolError):
        channel.receive(1.0)
