"""kill -9 in the middle of a transfer: the oracle is what the sender got acknowledged."""

import os
import signal
import threading
from hashlib import sha256

import pytest
from blake3 import blake3

from node.ledger import instances
from node.ledger.engine import open_ledger
from node.sweep import sweep_at_start
from tests.build_ledger import ledger_url
from tests.build_wire import encoded, image, receive_settings, sender, start_receiver, store
from tests.fault import oracle
from tests.wait import until

COUNT = 60


class Sending(threading.Thread):
    """Sends images until the receiver is gone, and remembers what was acknowledged."""

    def __init__(self, port, images):
        super().__init__(daemon=True)
        self._port = port
        self._images = images
        self.acknowledged = {}
        self.tried = 0

    def run(self):
        with sender(self._port) as association:
            for one in self._images:
                self.tried += 1
                if not association.is_established or store(association, one) != 0x0000:
                    return
                self.acknowledged[str(one.SOPInstanceUID)] = one


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)


def images(first):
    return [image(f"1.2.3.4.{number}") for number in range(first, COUNT + 1)]


def require_whole(data, acknowledged):
    """Require every acknowledged image whole on disk, hash-equal, and in the ledger.

    Or, of what came just before the end, where a start finds it.
    """
    landed = oracle.landed(data)
    ledger = open_ledger(ledger_url(data))
    known = {one.sop_instance_uid: one for one in instances.of_study(ledger, "1.2.3")}
    ledger.dispose()
    assert set(acknowledged) <= set(known) | set(landed)
    for uid, sent in acknowledged.items():
        if uid not in known:
            assert landed[uid] == sha256(encoded(sent)).hexdigest()
            continue
        content = known[uid].path.read_bytes()
        assert content.endswith(encoded(sent))
        assert blake3(content).hexdigest() == known[uid].path.stem


def require_no_truncated_file(data):
    for file in (data / "objects").rglob("*.dcm"):
        assert blake3(file.read_bytes()).hexdigest() == file.stem


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 41])
def test_what_was_acknowledged_survives_kill_minus_nine(tmp_path, after):
    settings = receive_settings(tmp_path)
    receiver = start_receiver(settings)
    first = Sending(receiver.port, images(1))
    first.start()

    until(lambda: len(first.acknowledged) >= after, seconds=60)
    kill(receiver.process)
    first.join(60)

    assert after <= len(first.acknowledged) < COUNT, "the kill came in the middle"
    require_whole(tmp_path, first.acknowledged)
    require_no_truncated_file(tmp_path)

    ledger = open_ledger(ledger_url(tmp_path))
    assert sweep_at_start(ledger, tmp_path).missing == ()
    ledger.dispose()
    again = start_receiver(settings)
    oracle.require_filed(tmp_path)
    second = Sending(again.port, images(1))
    second.start()
    second.join(120)
    until(lambda: not oracle.landings(tmp_path), seconds=10)
    kill(again.process)

    assert len(second.acknowledged) == COUNT
    require_whole(tmp_path, second.acknowledged)
    require_no_truncated_file(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
