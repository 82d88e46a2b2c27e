"""The receivers start together or not at all, and whoever waits for them hears of it in time."""

import logging
import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import active_children

import pytest

from node.log import LogStyle
from node.receivers import ReceiverError, start_receivers
from node.spawned import Birth
from tests.build_wire import image, receive_settings, sender, store
from tests.fakes import descendants
from tests.orthanc import free_port
from tests.wait import until


@pytest.fixture
def settings(tmp_path):
    return replace(receive_settings(tmp_path / "data"), port=free_port())


@pytest.fixture
def birth():
    return Birth(parent_pid=os.getpid(), log_level=logging.ERROR, log_style=LogStyle.TEXT)


@pytest.fixture(autouse=True)
def nobody_stays():
    """Require that no process of the test is left, nor any that it has started."""
    before = set(descendants(os.getpid()))
    yield
    assert active_children() == []
    # What multiprocessing itself keeps beside a process stays as long as that.
    helpers = 1
    until(lambda: len(set(descendants(os.getpid())) - before) <= helpers, seconds=20)


def is_taken(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(settings, birth, count):
    """Give the port and the processes of receivers; none of them stays."""
    sockets, receivers = start_receivers(settings, birth, count=count)
    try:
        yield sockets.port, [each.process for each in receivers]
    finally:
        for each in receivers:
            each.process.kill()
            each.process.join()
        sockets.close()


def test_receivers_take_connections_when_they_are_returned(settings, birth):
    with started(settings, birth, 2) as (port, receivers), sender(port) as association:
        status = store(association, image("1.2.3.4.1"))

    assert (status, len(receivers)) == (0x0000, 2)


def test_a_receiver_that_dies_at_its_start_takes_the_others_with_it(settings, birth):
    (settings.data / "ledger.sqlite").unlink()

    with pytest.raises(ReceiverError, match="ended with 1"):
        start_receivers(settings, birth, count=2)

    assert not is_taken(settings.port)


def test_a_start_that_hangs_ends_in_time_and_leaves_nobody(settings, birth):
    # Who opens a pipe to write waits until somebody reads: for ever.
    (settings.data / "receiving.lock").unlink(missing_ok=True)
    os.mkfifo(settings.data / "receiving.lock")

    with pytest.raises(ReceiverError, match="not ready in time"):
        start_receivers(settings, birth, count=2, seconds=3)

    assert not is_taken(settings.port)


def test_a_receiver_ends_when_what_keeps_for_it_is_gone(settings, birth):
    with started(settings, birth, 1) as (_, (receiver,)):
        (recorder,) = descendants(receiver.pid)
        os.kill(recorder, signal.SIGKILL)
        receiver.join(20)
        code = receiver.exitcode

    assert code == 1


def test_a_receiver_that_is_told_to_end_waits_until_all_is_kept(settings, birth):
    with started(settings, birth, 1) as (_, (receiver,)):
        (recorder,) = descendants(receiver.pid)
        # It has stopped for a while, as one that waits for its disk.
        os.kill(recorder, signal.SIGSTOP)
        receiver.terminate()
        time.sleep(1)
        waits = receiver.is_alive()
        os.kill(recorder, signal.SIGCONT)
        receiver.join(20)
        code = receiver.exitcode

    assert (waits, code) == (True, 0)
