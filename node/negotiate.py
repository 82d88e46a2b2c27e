"""Asking destinations what they take, before anything is encoded for them; one thread for all."""

import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pynetdicom.presentation import build_context

from dicom_io.encode.kinds import sop_classes
from dicom_io.sop_classes import sop_class_name
from node.config import Peer, Route
from node.errors import retry_delay_seconds
from node.ledger import accepted
from node.ledger.engine import Engine
from node.peer import NoContextError, Timeouts, associate
from node.routing import SENDER

logger = logging.getLogger(__name__)

#: What objects of ours are ever written in: explicit and implicit little endian, RLE (PS3.5 A).
_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiationSettings:
    """How often and how patiently destinations are asked."""

    calling_ae: str
    #: An answer counts for so long; a refusal has it asked again at once.
    fresh_seconds: float = 86400.0
    #: First pause after a destination that did not answer, before doubling, and the longest.
    base_seconds: float = 60.0
    cap_seconds: float = 3600.0
    #: How often the thread looks whether someone must be asked.
    poll_seconds: float = 5.0
    timeouts: Timeouts = field(default_factory=Timeouts)


def ask(peer: Peer, *, calling_ae: str, timeouts: Timeouts) -> dict[str, tuple[str, ...]]:
    """Return every SOP class of ours with the transfer syntaxes that ``peer`` takes it in.

    One association is opened and closed again; nothing is sent over it.

    Raises
    ------
    UnreachableError, AssociationRejectedError
        The peer could not be asked.
    """
    proposed = [(sop_class, syntax) for sop_class in sop_classes() for syntax in _SYNTAXES]
    # One syntax a context: of several a peer names only the one that it likes best.
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in proposed]
    taken: Collection[tuple[str, str]]
    try:
        with associate(peer, contexts, calling_ae=calling_ae, timeouts=timeouts) as association:
            taken = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in association.accepted_contexts
            }
    except NoContextError:
        taken = ()
    return {
        sop_class: tuple(syntax for syntax in _SYNTAXES if (sop_class, syntax) in taken)
        for sop_class in sop_classes()
    }


def peers_to_ask(peers: Mapping[str, Peer], routes: Iterable[Route]) -> tuple[Peer, ...]:
    """Return the peers that may be owed something and can be asked; a web service cannot."""
    named = {name for route in routes for name in route.send_to}
    return tuple(
        peer
        for name, peer in peers.items()
        if peer.host and not peer.url and (name in named or SENDER in named)
    )


class Negotiations:
    """The thread that asks, from start to stop; a destination out of reach holds up nothing."""

    def __init__(
        self, engine: Engine, peers: Iterable[Peer], settings: NegotiationSettings
    ) -> None:
        self._engine = engine
        self._peers = {peer.name: peer for peer in peers}
        self._settings = settings
        self._stop = threading.Event()
        #: Who has answered since the start; the others are asked whatever is known of them.
        self._answered: set[str] = set()
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, datetime] = {}
        self._thread = threading.Thread(target=self._run, name="negotiations", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask nobody any more; whoever is being asked now is not waited for."""
        self._stop.set()

    def ask_due(self, now: datetime) -> int:
        """Ask everyone of whom nothing fresh is known; return how many that were."""
        due = self._due(now)
        for peer in due:
            if self._stop.is_set():
                break
            self._ask(peer, now)
        return len(due)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask_due(datetime.now(UTC))
            except Exception:  # a loop: what is known stays known, the next turn comes anyway
                logger.exception(
                    "destinations not asked, will go on", extra={"event": "negotiation_failed"}
                )
            self._stop.wait(self._settings.poll_seconds)

    def _due(self, now: datetime) -> list[Peer]:
        known = accepted.known(self._engine, list(self._peers))
        stale = now - timedelta(seconds=self._settings.fresh_seconds)
        return [
            peer
            for name, peer in self._peers.items()
            if self._not_before.get(name, now) <= now
            and (name not in self._answered or name not in known or known[name].learnt < stale)
        ]

    def _ask(self, peer: Peer, now: datetime) -> None:
        settings = self._settings
        try:
            found = ask(peer, calling_ae=settings.calling_ae, timeouts=settings.timeouts)
        except ConnectionError as error:
            self._put_off(peer, str(error), now)
            return
        if self._stop.is_set():
            # Whoever stopped did not wait: the ledger may be closed.
            return
        self._answered.add(peer.name)
        self._failures.pop(peer.name, None)
        # An answer that is contradicted soon does not have the peer asked all the time.
        self._not_before[peer.name] = now + timedelta(seconds=settings.base_seconds)
        refused = accepted.learn(self._engine, peer.name, found, now)
        if refused:
            names = ", ".join(sop_class_name(uid) for uid in refused)
            extra = {"event": "destination_refuses", "destination": peer.name, "refuses": names}
            logger.warning("destination does not take all that is made", extra=extra)

    def _put_off(self, peer: Peer, reason: str, now: datetime) -> None:
        settings = self._settings
        failures = self._failures.get(peer.name, 0)
        pause = retry_delay_seconds(
            failures, base=settings.base_seconds, cap=settings.cap_seconds, jitter=0.0
        )
        self._failures[peer.name] = failures + 1
        self._not_before[peer.name] = now + timedelta(seconds=pause)
        if not failures and not self._stop.is_set():
            extra = {
                "event": "destination_not_asked",
                "destination": peer.name,
                "reason": reason,
                "retry_in_s": round(pause),
            }
            logger.warning("destination cannot be asked what it takes, will retry", extra=extra)
