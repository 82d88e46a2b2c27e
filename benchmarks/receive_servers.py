"""The receivers that ``benchmarks.receive`` compares, each started empty and stopped by its pid."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import descendants
from tests.node_process import running_node
from tests.orthanc import free_port, orthanc

SENDER = "SENDER"
_NODE = """
[node]
port = {port}
bind = "127.0.0.1"
data = "{data}"
[storage]
reserve_gb = 0.5
[peers.sender]
ae_title = "{sender}"
host = "127.0.0.1"
port = 104
"""
_LISTENING = "0A"
#: A twentieth of a processor for so long is a node at rest.
_IDLE_TICKS, _QUIET_SECONDS = os.sysconf("SC_CLK_TCK") / 20, 3


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A running Storage SCP on loopback."""

    ae_title: str
    port: int

    def peak_memory_bytes(self) -> int:
        """Return the most memory that any process which takes connections has held so far.

        With those that it has started: what they share counts for each.
        """
        listeners = _listeners(self.port)
        # Not one that only holds the socket for those that it has started.
        return max(
            sum(map(_peak_bytes, [process, *below]))
            for process in listeners
            if listeners.isdisjoint(below := descendants(process))
        )


@contextmanager
def pellucid_node(folder: Path) -> Iterator[Receiver]:
    """A node without routes: what it has acknowledged is on disk and in the ledger."""
    port, config = free_port(), folder / "config"
    config.mkdir(parents=True)
    (config / "node.toml").write_text(
        _NODE.format(port=port, data=folder / "data", sender=SENDER), encoding="utf-8"
    )
    with running_node(config, folder / "node.log") as node:
        # Its worker loads torch meanwhile, as it does once a day or a week.
        _wait_until_idle(node.pid)
        yield Receiver(ae_title="PELLUCID", port=port)


@contextmanager
def debian_orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc as Debian has it; it syncs what it stores, too."""
    with orthanc(folder) as server:
        yield Receiver(ae_title=server.ae_title, port=server.dicom_port)


@contextmanager
def dcmtk_storescp(folder: Path) -> Iterator[Receiver]:
    """DCMTK's storescp, a process for each association; it syncs nothing."""
    port = free_port()
    (folder / "received").mkdir(parents=True)
    command = ["/usr/bin/storescp", "--fork", "-od", str(folder / "received"), str(port)]
    with _running(command, port):
        yield Receiver(ae_title="STORESCP", port=port)


@contextmanager
def stock_pynetdicom(folder: Path) -> Iterator[Receiver]:
    """pynetdicom's own storescp; it syncs nothing."""
    port = free_port()
    received = folder / "received"
    received.mkdir(parents=True)
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(received)]
    with _running(command, port):
        yield Receiver(ae_title="STORESCP", port=port)


#: By the name that tables show, ours first.
RECEIVERS: Mapping[str, Callable[[Path], AbstractContextManager[Receiver]]] = {
    "Pellucid": pellucid_node,
    "Orthanc": debian_orthanc,
    "DCMTK storescp": dcmtk_storescp,
    "stock pynetdicom": stock_pynetdicom,
}


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _listening_inodes(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not listen on port {port}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_idle(process: int) -> None:
    """Return when it and those that it has started have used no processor to speak of for 3 s."""
    before, quiet = _family_ticks(process), 0
    while quiet < _QUIET_SECONDS:
        time.sleep(1.0)
        now = _family_ticks(process)
        quiet = quiet + 1 if now - before < _IDLE_TICKS else 0
        before = now


def _family_ticks(process: int) -> int:
    # Listed anew: what is late to begin is what would disturb.
    return sum(map(_processor_ticks, [process, *descendants(process)]))


def _processor_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _listening_inodes(port: int) -> set[str]:
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        fields[9]
        for fields in lines
        if fields[3] == _LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port
    }


def _listeners(port: int) -> set[int]:
    """Return the processes that have the socket of a port."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    holders = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in wanted:
                holders.add(int(descriptor.parts[2]))
        except OSError:
            # Gone meanwhile, or another user's.
            continue
    return holders


def _peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
