"""Much at once and much in a row: neither may cost memory."""

import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat

import pytest

from node.ledger import instances
from node.ledger.engine import open_ledger
from tests.build_ledger import ledger_url
from tests.build_wire import encoded, image
from tests.fault.conftest import HONEST, new_uid
from tests.fault.pdu import (
    COMMAND,
    LAST,
    STORE_CONTEXT,
    Connection,
    fragment,
    p_data,
    store_command,
)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]

EXTRA_MB = 150
#: 2 GB in frames of 512 x 512 pixels of 16 bits.
FRAMES, FRAME_BYTES = 4096, 512 * 512 * 2
SENDERS, EACH = 4, 5000


def multiframe_head(uid: str) -> bytes:
    """Return all of a data set but the value of its pixel data."""
    dataset = image(uid, Rows=512, Columns=512, NumberOfFrames=str(FRAMES))
    del dataset.PixelData
    length = FRAMES * FRAME_BYTES
    return encoded(dataset) + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", length)


def test_an_object_of_two_gigabytes_costs_no_memory(start, record_property):
    target, uid = start(), new_uid()
    frame = bytes(range(256)) * (FRAME_BYTES // 256)
    piece = p_data(*(fragment(STORE_CONTEXT, 0, frame[half : half + (1 << 17)])
                     for half in range(0, FRAME_BYTES, 1 << 17)))  # fmt: skip
    most = 0.0

    with Connection(target.port, HONEST, 300) as connection:
        assert connection.associate()
        connection.send(p_data(fragment(STORE_CONTEXT, COMMAND | LAST, store_command(uid))))
        connection.send(p_data(fragment(STORE_CONTEXT, 0, multiframe_head(uid))))
        for _ in range(FRAMES):
            assert connection.send(piece)
            most = max(most, target.now.memory_mb)
        connection.send(p_data(fragment(STORE_CONTEXT, LAST, b"")))
        assert connection.status() == 0x0000

    ledger = open_ledger(ledger_url(target.data))
    (kept,) = (one for one in instances.of_study(ledger, "1.2.3") if one.sop_instance_uid == uid)
    ledger.dispose()
    assert kept.path.stat().st_size > FRAMES * FRAME_BYTES
    record_property("more_mb", most - target.before.memory_mb)
    assert most - target.before.memory_mb < EXTRA_MB


def send_many(port: int, uids) -> int:
    """Send small images over one association; return how many were acknowledged."""
    content = encoded(image("1.2.3.4.5"))
    with Connection(port, HONEST, 60) as connection:
        assert connection.associate()
        count = 0
        for uid in uids:
            own = content.replace(b"1.2.3.4.5\0", uid.encode())
            command = fragment(STORE_CONTEXT, COMMAND | LAST, store_command(uid))
            connection.send(p_data(command, fragment(STORE_CONTEXT, LAST, own)))
            count += connection.status() == 0x0000
        connection.release()
    return count


def test_twenty_thousand_instances_cost_no_memory(start, record_property):
    target = start(accept_unknown=True)
    uids = [[f"1.2.{sender}.{number:04d}" for number in range(EACH)] for sender in range(SENDERS)]
    warm = [each[:250] for each in uids]
    rest = [each[250:] for each in uids]

    with ThreadPoolExecutor(SENDERS) as pool:
        first = sum(pool.map(send_many, repeat(target.port), warm))
        early = target.now.memory_mb
        later = sum(pool.map(send_many, repeat(target.port), rest))

    record_property("early_and_late_mb", (early, target.now.memory_mb))
    assert first + later == len(list(chain(*uids)))
    assert target.now.memory_mb < early + 20
    assert target.now.memory_mb < 200
