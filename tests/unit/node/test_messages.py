"""Messages put together from fragments: instances, what others get, and what is no message."""

import struct
from io import BytesIO

import pytest
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode

from node.command_set import StoreRequest, read_command, store_response
from node.messages import Messages, Whole
from node.upper_layer import P_DATA, ProtocolError, data_pdu, fragments, pdu_head

STORAGE, OTHER = 1, 3
SYNTAX = "1.2.840.10008.1.2.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


class Arriving:
    """One instance, as it arrived."""

    def __init__(self, request, syntax):
        self.request, self.syntax = request, syntax
        self.content = b""
        self.is_closed = False

    def write(self, content):
        self.content += bytes(content)

    def close(self):
        self.is_closed = True


class Peer:
    """What one association has led to."""

    def __init__(self):
        self.begun, self.whole = [], []
        self.messages = Messages({STORAGE: SYNTAX}, self.begin)

    def begin(self, request, syntax):
        self.begun.append(Arriving(request, syntax))
        return self.begun[-1]

    def send(self, *pieces):
        """Send one PDU of these fragments; return what another service must read."""
        taken = self.messages.take(memoryview(b"".join(pieces)))
        self.whole += taken.whole
        return taken.others

    def numbers(self):
        """Return which requests wait for their answer, and over which contexts."""
        return [(each.request.message_id, each.context_id) for each in self.whole]


@pytest.fixture
def peer():
    return Peer()


def element(number, value):
    return struct.pack("<HHL", 0, number, len(value)) + value


def command(field=0x0001, *, has_data_set=True, uid=b"1.2.3\0", message_id=7):
    elements = element(0x0002, CT_IMAGE.encode()) + element(0x0100, struct.pack("<H", field))
    elements += element(0x0110, struct.pack("<H", message_id))
    elements += element(0x0800, struct.pack("<H", 1 if has_data_set else 0x0101))
    elements += element(0x1000, uid)
    return element(0, struct.pack("<L", len(elements))) + elements


def piece(content, *, context=STORAGE, is_command=False, is_last=False):
    control = (1 if is_command else 0) | (2 if is_last else 0)
    return struct.pack(">LBB", len(content) + 2, context, control) + content


def whole_command(*arguments, context=STORAGE, **changes):
    return piece(command(*arguments, **changes), context=context, is_command=True, is_last=True)


def test_an_instance_in_pieces_arrives_whole(peer):
    assert peer.send(whole_command()) == []
    assert peer.send(piece(b"first ")) == []
    assert peer.whole == []
    assert peer.send(piece(b"second "), piece(b"last", is_last=True)) == []

    (arriving,) = peer.begun
    assert arriving.content == b"first second last"
    assert arriving.request.sop_instance_uid == "1.2.3"
    assert arriving.syntax == SYNTAX
    assert peer.whole == [Whole(arriving.request, STORAGE, arriving)]
    assert not peer.messages.is_amid


def test_command_and_data_set_may_share_a_pdu(peer):
    assert peer.send(whole_command(), piece(b"all", is_last=True)) == []

    assert peer.numbers() == [(7, STORAGE)]


def test_a_command_may_come_in_pieces(peer):
    encoded = command()

    peer.send(piece(encoded[:9], is_command=True))
    peer.send(piece(encoded[9:], is_command=True, is_last=True))
    peer.send(piece(b"all", is_last=True))

    assert peer.begun[0].content == b"all"


def test_instances_follow_one_another(peer):
    for number in (1, 2):
        peer.send(whole_command(message_id=number))
        peer.send(piece(b"x", is_last=True))

    assert peer.numbers() == [(1, STORAGE), (2, STORAGE)]


def test_two_instances_may_share_a_pdu(peer):
    peer.send(
        whole_command(message_id=1), piece(b"x", is_last=True),
        whole_command(message_id=2), piece(b"y", is_last=True),
    )  # fmt: skip

    assert peer.numbers() == [(1, STORAGE), (2, STORAGE)]
    assert [each.content for each in peer.begun] == [b"x", b"y"]


def test_a_request_without_a_data_set_has_nothing_that_arrives(peer):
    peer.send(whole_command(has_data_set=False))

    assert peer.begun == []
    assert peer.numbers() == [(7, STORAGE)]
    assert peer.whole[0].arriving is None


def test_another_service_gets_its_pdus_as_they_came(peer):
    echo = whole_command(0x0030, has_data_set=False, context=OTHER)

    assert peer.send(echo) == [pdu_head(P_DATA, len(echo)) + echo]


def test_another_service_gets_its_data_set_too_and_then_instances_come_again(peer):
    report = whole_command(0x0100, context=OTHER)
    body = piece(b"event", context=OTHER, is_last=True)

    assert peer.send(report) == [pdu_head(P_DATA, len(report)) + report]
    assert peer.send(body) == [pdu_head(P_DATA, len(body)) + body]
    peer.send(whole_command())
    peer.send(piece(b"all", is_last=True))

    assert peer.begun[0].content == b"all"


def test_a_store_over_a_context_that_is_not_for_storage_is_not_ours(peer):
    assert peer.send(whole_command(context=OTHER)) != []

    assert peer.begun == []


@pytest.mark.parametrize(
    "pdus",
    [
        [piece(b"data", is_last=True)],
        [whole_command(), whole_command()],
        [whole_command(), piece(b"x", context=OTHER)],
        [piece(b"no command set", is_command=True, is_last=True)],
        [piece(element(0x0100, b"\1\0"), is_command=True, is_last=True)],
        [whole_command(0x0030, has_data_set=False, context=OTHER) + whole_command()],
        [whole_command(), piece(b"x", is_last=True) + whole_command(0x0030, context=OTHER)],
        [
            whole_command()
            + piece(b"x", is_last=True)
            + whole_command(0x0030, has_data_set=False, context=OTHER)
        ],
        [b"\0\0\0\xff\1\0"],
        [b"\0\0\0\1\1"],
        [b"\0\0"],
    ],
    ids=[
        "data first", "two commands", "another context", "no command", "half a command",
        "echo, then store", "store, then echo", "both in one", "beyond the PDU", "no room", "cut",
    ],
)  # fmt: skip
def test_what_makes_no_message_is_a_breach(peer, pdus):
    for pdu in pdus[:-1]:
        peer.send(pdu)

    with pytest.raises(ProtocolError):
        peer.send(pdus[-1])


def test_a_command_without_end_is_a_breach(peer):
    endless = piece(bytes(1 << 14), is_command=True)
    for _ in range(4):
        peer.send(endless)

    with pytest.raises(ProtocolError, match="65536"):
        peer.send(endless)


def test_what_is_no_store_may_not_grow_for_ever(peer):
    peer.send(whole_command(0x0100, context=OTHER))

    endless = piece(bytes(1 << 20), context=OTHER)
    for _ in range(7):
        peer.send(endless)

    with pytest.raises(ProtocolError, match="8388608"):
        peer.send(endless)


def test_messages_without_end_are_no_message_without_end(peer):
    padded = command(0x0030, has_data_set=False)[12:] + element(0xFFF0, bytes(1 << 15))
    echo = piece(padded, context=OTHER, is_command=True, is_last=True)

    for _ in range(300):
        assert len(peer.send(echo)) == 1


def test_an_instance_that_does_not_come_whole_is_dropped(peer):
    peer.send(whole_command())
    peer.send(piece(b"half"))

    peer.messages.close()

    assert peer.begun[0].is_closed
    assert peer.whole == []


def test_an_instance_that_comes_whole_with_a_breach_is_dropped(peer):
    with pytest.raises(ProtocolError):
        peer.send(whole_command(), piece(b"all", is_last=True), b"\0\0")

    peer.messages.close()

    assert peer.begun[0].is_closed


def test_the_answer_repeats_what_was_asked_and_can_be_read_again():
    request = StoreRequest(
        message_id=300, sop_class_uid=CT_IMAGE, sop_instance_uid="1.2.3", has_data_set=True
    )

    pdu = data_pdu(STORAGE, store_response(request, 0xA700))

    (fragment,) = fragments(memoryview(pdu)[6:])
    answer = read_command(bytes(fragment.content))
    assert (fragment.context_id, fragment.is_command, fragment.is_last) == (STORAGE, True, True)
    assert answer.elements[0x0100] == b"\x01\x80"
    assert answer.elements[0x0120] == struct.pack("<H", 300)
    assert answer.elements[0x0900] == b"\x00\xa7"
    assert answer.elements[0x1000] == b"1.2.3\0"
    assert int.from_bytes(answer.elements[0], "little") == len(fragment.content) - 12


def test_pynetdicom_reads_the_answer_as_its_own():
    request = StoreRequest(
        message_id=9, sop_class_uid=CT_IMAGE, sop_instance_uid="1.2.33", has_data_set=True
    )
    message = C_STORE_RSP()
    message.command_set = decode(BytesIO(store_response(request, 0xC000)), True, True)

    primitive = message.message_to_primitive()

    assert primitive.Status == 0xC000
    assert primitive.MessageIDBeingRespondedTo == 9
    assert primitive.AffectedSOPInstanceUID == "1.2.33"
