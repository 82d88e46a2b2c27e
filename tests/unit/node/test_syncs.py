"""Syncs that go on beside other work."""

import errno
import mmap
import os
import re
import select
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from caio import linux_aio

from node import syncs
from node.syncs import Syncs

ROOT = Path(__file__).parents[3]
SOON_MS = 60_000
MEGABYTES = 8


def none_left(**_):
    raise SystemError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture(params=["of the system", "used up", "forbidden"])
def asked(request, monkeypatch):
    """Syncs of a system that has some to give, and of those that have none."""
    if request.param == "used up":
        monkeypatch.setattr(linux_aio, "Context", none_left)
    if request.param == "forbidden":
        # As caio ends where io_setup(2) does not exist for a process.
        monkeypatch.setitem(sys.modules, "caio", None)
    made = Syncs()
    assert (made.fileno() < 0) == (request.param != "of the system")
    return made


def test_the_store_needs_no_syncs_of_the_system():
    program = "import sys; sys.modules['caio'] = None; import node.store, node.recorder"

    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def results_of(asked, descriptors):
    """Return what was heard of each, by descriptor."""
    heard = {}
    for descriptor in descriptors:
        asked.begin(descriptor, lambda failure, it=descriptor: heard.setdefault(it, failure))
    poll = select.poll()
    if asked.fileno() >= 0:
        poll.register(asked.fileno(), select.POLLIN)
    while len(heard) < len(descriptors):
        assert poll.poll(SOON_MS)
        asked.hear()
    return heard


@contextmanager
def opened(path, flags):
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unwritten_bytes(path: Path):
    """Return how much of a file the system has not written out yet (proc_pid_smaps(5))."""
    # A map of it that is shared shows which of its pages are dirty, whoever has written them.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        sum(pages[:: mmap.PAGESIZE])
        text = Path("/proc/self/smaps").read_text()
    (part,) = [
        part for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text) if path.name in part
    ]
    return 1024 * sum(
        int(found) for found in re.findall(r"(?:Shared|Private)_Dirty: +(\d+) kB", part)
    )


def test_what_is_synced_is_written_out(asked, tmp_path):
    path = tmp_path / "written"
    path.write_bytes(os.urandom(MEGABYTES << 20))
    before = unwritten_bytes(path)

    with opened(path, os.O_RDONLY) as descriptor:
        assert results_of(asked, [descriptor]) == {descriptor: None}

    assert before > 0
    assert unwritten_bytes(path) == 0


def test_many_at_once_and_folders(asked, tmp_path):
    paths = [tmp_path, *(tmp_path / str(number) for number in range(200))]
    for path in paths[1:]:
        path.write_bytes(b"content")
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        assert results_of(asked, descriptors) == dict.fromkeys(descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_what_cannot_be_synced_is_told_so(asked):
    reader, writer = os.pipe()
    try:
        (failure,) = results_of(asked, [writer]).values()
    finally:
        os.close(reader)
        os.close(writer)

    assert isinstance(failure, OSError)
    assert failure.errno == errno.EINVAL


def test_what_a_disk_that_fails_is_told_as():
    # As caio shows it: there is no disk here that can be made to fail.
    failure = syncs._failure(0, (1 << 64) - errno.EIO)

    assert isinstance(failure, OSError)
    assert failure.errno == errno.EIO
