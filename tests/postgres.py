"""A real PostgreSQL on a loopback port, in a folder of its own, as long as tests need it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from tests import peers
from tests.orthanc import free_port
from tests.wait import until

_OWNER = "pellucid"
#: Nothing here outlives its test: what a power cut would take needs no waiting for.
_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200")


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A running server."""

    port: int
    _numbers: Iterator[int]

    def new_database(self) -> str:
        """Return the SQLAlchemy URL of an empty database."""
        name = f"ledger_{next(self._numbers)}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=_OWNER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://{_OWNER}@127.0.0.1:{self.port}/{name}"

    def run(self, program: str, *words: object) -> None:
        """Run one of the server's own programs against it."""
        subprocess.run(
            [_programs() / program, *map(str, words)],
            env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": _OWNER},
            check=True,
            timeout=60,
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a server, and stop it at the end."""
    programs = _programs()
    # Not in pytest's folder, which the server's own user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="pellucid-postgres-"))
    unprivileged = _unprivileged(folder)
    try:
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", _OWNER, "-A", "trust", "-N"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            **unprivileged,
        )
        assert made.returncode == 0, made.stderr
        with _running(programs / "postgres", folder, unprivileged) as port:
            yield Postgres(port=port, _numbers=count(1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    newest = found[-1] if found else peers.require("postgres", "apt-get install postgresql")
    return newest.parent


def _unprivileged(folder: Path) -> dict[str, object]:
    """Return how to start a process as another user than root, whom the server refuses."""
    if os.geteuid() != 0:
        return {}
    shutil.chown(folder, "postgres", "postgres")
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


@contextmanager
def _running(program: Path, folder: Path, unprivileged: dict[str, object]) -> Iterator[int]:
    port = free_port()
    settings = [word for each in _SETTINGS for word in ("-c", each)]
    command = [program, "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
    log = folder / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*map(str, command), *settings],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            **unprivileged,
        )
    try:
        until(lambda: _answers(port) or server.poll() is not None, seconds=60)
        assert server.poll() is None, log.read_text()
        yield port
    finally:
        # Immediate shutdown: nothing is kept.
        server.send_signal(signal.SIGQUIT)
        server.wait(timeout=60)


def _answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user=_OWNER, dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True
