"""A network that fails: a TCP proxy that delays, drips, stalls and cuts what it passes on."""

import random
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from tests.fault.crowd import reset

_LOOK_SECONDS = 0.05


class Way(StrEnum):
    """Where bytes go."""

    UP = "up"  # to the server
    DOWN = "down"  # to the client


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The end of a connection: as soon as ``after`` bytes have been passed on in one way."""

    way: Way
    after: int
    #: Both sides see a reset (RST), and lose what they have not read yet; else an end (FIN).
    hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the network does to one connection."""

    cut: Cut | None = None
    #: After so many bytes to the server nothing passes any more, and nothing is closed.
    stall: int | None = None
    #: Most bytes that are passed on at a time.
    piece: int = 1 << 16
    #: Before each piece.
    delay_seconds: float = 0.0


@dataclass(slots=True)
class Passage:
    """What became of one connection."""

    number: int
    passed: dict[Way, int] = field(default_factory=lambda: {Way.UP: 0, Way.DOWN: 0})
    pieces: int = 0
    #: Whether it came to the cut of its line.
    cut: Cut | None = None
    stalled: bool = False
    over: bool = False


Plan = Callable[[int], Line]


def clear(_number: int) -> Line:
    """Pass everything on."""
    return Line()


def only_first(line: Line) -> Plan:
    """Return a plan that spoils the first connection and no other."""
    return lambda number: line if number == 0 else Line()


def cutting(seed: int, *, share: float, whole: dict[Way, int]) -> Plan:
    """Return a plan that cuts a share of the connections, each at a random byte.

    Parameters
    ----------
    whole
        How many bytes an undisturbed connection passes on in each way.
    """

    def plan(number: int) -> Line:
        chance = random.Random(f"{seed}-{number}")
        if chance.random() >= share:
            return Line()
        way = Way.DOWN if chance.random() < 0.25 else Way.UP
        after, hard = chance.randrange(whole[way]), chance.random() < 0.5
        return Line(cut=Cut(way=way, after=after, hard=hard))

    return plan


class Proxy:
    """Listens on a port of its own and passes on to ``server_port``, as the plan has it.

    Parameters
    ----------
    plan
        From the number of a connection, counted from 0, to what happens to it.
    """

    def __init__(self, server_port: int, plan: Plan = clear) -> None:
        self.plan = plan
        self.passages: list[Passage] = []
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._stop = threading.Event()
        self._hung_up = 0
        self._carriers: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._acceptor.join()
        for carrier in self._carriers:
            carrier.join()
        self._listener.close()

    @property
    def cuts(self) -> list[Cut]:
        """The cuts that really came."""
        return [one.cut for one in self.passages if one.cut is not None]

    def hang_up(self) -> None:
        """Reset every connection that is open now."""
        self._hung_up = len(self.passages)

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], _LOOK_SECONDS)[0]:
                continue
            client, _ = self._listener.accept()
            passage = Passage(number=len(self.passages))
            self.passages.append(passage)
            carrier = threading.Thread(target=self._carry, args=(client, passage))
            self._carriers.append(carrier)
            carrier.start()

    def _carry(self, client: socket.socket, passage: Passage) -> None:
        server = socket.socket()
        line = self.plan(passage.number)
        hard = True
        try:
            server.connect(("127.0.0.1", self._server_port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pass_on(client, server, line, passage)
            hard = passage.cut.hard if passage.cut else self._must_end(passage)
        except OSError:
            # Either side is gone: the other one learns it.
            pass
        finally:
            for one in (client, server):
                if hard:
                    reset(one)
                one.close()
            passage.over = True

    def _pass_on(
        self, client: socket.socket, server: socket.socket, line: Line, passage: Passage
    ) -> None:
        ways = {client: (Way.UP, server), server: (Way.DOWN, client)}
        while ways and not self._is_cut(line, passage) and not self._must_end(passage):
            if line.stall is not None and passage.passed[Way.UP] >= line.stall:
                passage.stalled = True
                self._stop.wait(_LOOK_SECONDS)
                continue
            for source in select.select(list(ways), [], [], _LOOK_SECONDS)[0]:
                way, sink = ways[source]
                content = source.recv(self._at_most(line, passage, way))
                if content:
                    self._stop.wait(line.delay_seconds)
                    sink.sendall(content)
                    passage.passed[way] += len(content)
                    passage.pieces += 1
                else:
                    del ways[source]
                    with suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                if self._is_cut(line, passage):
                    break

    def _at_most(self, line: Line, passage: Passage, way: Way) -> int:
        """Return how much may be passed on: to the byte of the cut or the stall, none beyond."""
        limits = [line.piece]
        if line.cut is not None and line.cut.way is way:
            limits.append(line.cut.after - passage.passed[way])
        if line.stall is not None and way is Way.UP:
            limits.append(line.stall - passage.passed[way])
        return min(limits)

    def _is_cut(self, line: Line, passage: Passage) -> bool:
        if line.cut is not None and passage.passed[line.cut.way] >= line.cut.after:
            passage.cut = line.cut
        return passage.cut is not None

    def _must_end(self, passage: Passage) -> bool:
        return self._stop.is_set() or passage.number < self._hung_up
