"""A real node as an administrator runs it: a configuration folder and ``pellucid run``."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PELLUCID = Path(sys.executable).parent / "pellucid"


def pellucid(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end and return what it said."""
    return subprocess.run(
        [str(PELLUCID), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@contextmanager
def running_node(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``pellucid run`` on a configuration folder until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(PELLUCID), "run", "--config", str(config)], stdout=output, stderr=output
        )
    try:
        _wait_until_up(process, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_until_up(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the node ended:\n{log.read_text()[-3000:]}")
        if "event=node_ready" in log.read_text():
            return
        time.sleep(0.1)
    raise TimeoutError(f"the node was not ready within 90 s:\n{log.read_text()[-3000:]}")
