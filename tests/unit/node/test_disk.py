"""What the disk is asked to do, beside other work."""

import errno
import mmap
import os
import platform
import re
import resource
import select
import signal
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from node import aio, disk
from node.aio import Aio
from node.disk import Disk, Sync, Write
from tests.wait import until

SOON_MS = 60_000
MEGABYTES = 8
BLOCK = 4096


def none_left(*_):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture(params=["of the system", "used up", "of an unknown machine"])
def asked(request, monkeypatch):
    """A disk of a system that has AIO to give, and of those that have none."""
    if request.param == "used up":
        monkeypatch.setattr(aio, "_call", none_left)
    if request.param == "of an unknown machine":
        monkeypatch.setattr(platform, "machine", lambda: "vax")
    with closing(Disk()) as made:
        assert (made.fileno() < 0) == (request.param != "of the system")
        yield made


def results_of(asked, wishes):
    """Return what was heard of each."""
    heard = {}
    for number, wish in enumerate(wishes):
        asked.begin(wish, partial(heard.setdefault, number))
    poll = select.poll()
    if asked.fileno() >= 0:
        poll.register(asked.fileno(), select.POLLIN)
    while len(heard) < len(wishes):
        assert poll.poll(SOON_MS)
        asked.hear()
    return [heard[number] for number in range(len(wishes))]


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
        assert results_of(asked, [Sync(descriptor)]) == [None]

    assert before > 0
    assert unwritten_bytes(path) == 0


def test_many_at_once_and_folders(asked, tmp_path):
    paths = [tmp_path, *(tmp_path / str(number) for number in range(200))]
    for path in paths[1:]:
        path.write_bytes(b"content")
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        wishes = [Sync(descriptor) for descriptor in descriptors]
        assert results_of(asked, wishes) == [None] * len(wishes)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def untold(asked):
    """Return how many have ended that nobody has heard of (eventfd(2))."""
    if asked.fileno() < 0:
        return 0
    (count,) = re.findall(
        r"eventfd-count: *([0-9a-f]+)", Path(f"/proc/self/fdinfo/{asked.fileno()}").read_text()
    )
    return int(count, 16)


def test_what_ends_while_nobody_listens_is_all_heard_of_at_once(asked, tmp_path):
    heard = []
    with opened(tmp_path, os.O_RDONLY) as descriptor:
        for _ in range(200):
            asked.begin(Sync(descriptor), heard.append)
        until(lambda: len(heard) + untold(asked) == 200, seconds=30)

        asked.hear()

    assert heard == [None] * 200


def test_what_cannot_be_synced_is_told_so(asked):
    reader, writer = os.pipe()
    try:
        (failure,) = results_of(asked, [Sync(writer)])
    finally:
        os.close(reader)
        os.close(writer)

    assert isinstance(failure, OSError)
    assert failure.errno == errno.EINVAL


def pages(content):
    """Return memory that begins at a page and holds the content."""
    memory = memoryview(mmap.mmap(-1, len(content)))
    memory[:] = content
    return memory


@pytest.mark.parametrize("flags", [0, os.O_DIRECT])
def test_what_is_written_is_there(asked, tmp_path, flags):
    content = os.urandom(64 * BLOCK)
    wishes = []
    for number in range(20):
        descriptor = os.open(tmp_path / str(number), os.O_CREAT | os.O_WRONLY | flags)
        wishes.append(Write(descriptor, pages(content)))
    try:
        heard = results_of(asked, wishes)
    finally:
        for wish in wishes:
            os.close(wish.descriptor)

    assert heard == [None] * 20
    assert all((tmp_path / str(number)).read_bytes() == content for number in range(20))


def test_what_cannot_be_written_is_told_so(asked, tmp_path):
    (tmp_path / "x").touch()
    with opened(tmp_path / "x", os.O_RDONLY) as descriptor:
        (failure,) = results_of(asked, [Write(descriptor, pages(bytes(BLOCK)))])

    assert isinstance(failure, OSError)
    assert failure.errno == errno.EBADF


def test_a_disk_that_becomes_full_amid_a_write_is_full(asked, tmp_path):
    with limited_to(BLOCK), opened(tmp_path / "x", os.O_CREAT | os.O_WRONLY) as descriptor:
        (failure,) = results_of(asked, [Write(descriptor, pages(bytes(4 * BLOCK)))])

    assert isinstance(failure, OSError)
    assert failure.errno == errno.ENOSPC


@contextmanager
def limited_to(count):
    """Have the system write no more than so many bytes into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_signal_where_nothing_has_ended_is_no_failure():
    # Only a look that finds nothing is interrupted: after an event that was seen already.
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    with closing(Aio(4)) as made:
        signal.setitimer(signal.ITIMER_REAL, 50e-6, 50e-6)
        try:
            for _ in range(20_000):
                os.eventfd_write(made.fileno(), 1)
                assert made.ended() == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_what_is_closed_leaves_no_descriptor_open():
    before = sorted(Path("/proc/self/fd").iterdir())
    Aio(4).close()

    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_what_a_disk_that_fails_is_told_as():
    # There is no disk here that can be made to fail.
    failure = disk._failure(Sync(0), -errno.EIO)

    assert isinstance(failure, OSError)
    assert failure.errno == errno.EIO
