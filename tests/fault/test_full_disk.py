"""A data folder without room: temporary refusals, nothing partial, and on again without restart."""

import subprocess

import pytest

from node.ledger import instances
from node.ledger.engine import open_ledger
from tests import peers
from tests.build_ledger import ledger_url
from tests.build_wire import image, receive_settings, receiver, sender, store

MOST = 400


@pytest.fixture
def small_disk(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        peers.absent("a tmpfs of 2 MB cannot be mounted: run this test as root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def known_instances(data):
    ledger = open_ledger(ledger_url(data))
    known = {one.sop_instance_uid: one for one in instances.of_study(ledger, "1.2.3")}
    ledger.dispose()
    return known


def test_a_full_disk_costs_no_acknowledged_instance(small_disk):
    data, filler = small_disk / "data", small_disk / "filler"
    settings = receive_settings(data)
    filler.write_bytes(bytes(900_000))
    answers = {}

    with receiver(settings) as port, sender(port) as association:
        for number in range(1, MOST + 1):
            uid = f"1.2.3.4.{number}"
            answers[uid] = store(association, image(uid))
            if answers[uid] != 0x0000:
                break
        refused = uid
        filler.unlink()
        answers["again"] = store(association, image(refused))

    known = known_instances(data)
    acknowledged = {uid for uid, status in answers.items() if status == 0x0000} - {"again"}
    assert answers[refused] == 0xA700
    assert answers["again"] == 0x0000
    assert acknowledged | {refused} == set(known)
    assert all(one.path.exists() for one in known.values())
    assert not list(data.rglob("*.part"))
