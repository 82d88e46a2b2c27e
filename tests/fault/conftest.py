"""Receivers in processes of their own, with what they took before anything was sent."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.build_ledger import ledger_url
from tests.build_wire import (
    ReceiverProcess,
    encoded,
    image,
    receive_settings,
    start_receiver,
)
from tests.fault.kept import known_datasets
from tests.fault.pdu import Connection
from tests.fault.vitals import Vitals, no_more_than, settled, vitals
from tests.postgres import Postgres, postgres
from tests.wait import until

#: What a ledger may lie in; for ``database``.
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.fault)]
#: Nobody attacks from here.
HONEST = "127.0.0.99"


def new_uid() -> str:
    """Return a UID that nothing has (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A receiver that is attacked."""

    process: ReceiverProcess
    data: Path
    #: What it took when nobody was connected.
    before: Vitals

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def now(self) -> Vitals:
        return vitals(self.process.process.pid)

    @property
    def alive(self) -> bool:
        return self.process.process.is_alive()

    def serves(self) -> None:
        """Require that an honest sender can echo and store, and that it is stored."""
        sent = image(new_uid())
        with Connection(self.port, HONEST) as connection:
            assert connection.associate()
            assert connection.echo() == 0x0000
            assert connection.store(sent) == 0x0000
            assert connection.release()
        self.keeps([sent])

    def keeps(self, acknowledged) -> None:
        """Require every acknowledged data set whole in the store and in the ledger."""
        known = known_datasets(self.data)
        for dataset in acknowledged:
            assert encoded(dataset) in known

    def has_nothing_left_over(self, seconds: float = 30) -> None:
        """Require threads and descriptors as they were, and no part of a file."""
        until(
            lambda: no_more_than(self.now, self.before),
            seconds=seconds,
            why=lambda: f"{self.now} after {self.before}",
        )
        assert not list(self.data.rglob("*.part"))


@contextmanager
def target_with(data: Path, **changes) -> Iterator[Target]:
    """Run a receiver until the block ends."""
    receiver = start_receiver(receive_settings(data, **changes))
    try:
        # The first association loads modules: without them it would not be the start.
        with Connection(receiver.port, HONEST) as connection:
            assert connection.associate()
            assert connection.store(image(new_uid())) == 0x0000
            assert connection.release()
        yield Target(process=receiver, data=data, before=settled(receiver.process.pid))
    finally:
        receiver.process.kill()
        receiver.process.join(20)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of a file."""
    with postgres() as running:
        yield running


@pytest.fixture
def database(request, tmp_path) -> str:
    """Where no ledger is yet: the URL of a file or of a server, as a parameter says."""
    (tmp_path / "data").mkdir()
    if request.param == "postgresql":
        return request.getfixturevalue("server").new_database()
    return ledger_url(tmp_path / "data")


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Iterator[Target]:
    """A receiver with its defaults, for all tests of a file."""
    with target_with(tmp_path_factory.mktemp("receiver") / "data") as one:
        yield one


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Target]]:
    """Give a function that starts a receiver with other settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(target_with(tmp_path / "data", **changes))
