"""The outbox on its way: one thread per destination, each at its own pace.

At least once: an object may be sent again after a crash, always under the same UID.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

from pynetdicom.association import Association

from dicom_io.errors import DamagedFileError
from node.config import Peer
from node.errors import retry_delay_seconds
from node.ledger import outbox
from node.ledger.engine import Engine
from node.peer import (
    AssociationLostError,
    AssociationRejectedError,
    NoContextError,
    StoredObject,
    Timeouts,
    UnreachableError,
    associate,
    batches,
    contexts_for,
    keeps,
    store,
    stored_object,
)
from node.task import Delivery

logger = logging.getLogger(__name__)

#: PS3.7 C.5: processing failure and resource limitation may pass.
_TEMPORARY = (0x0110, 0x0213)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How patiently a destination is tried."""

    calling_ae: str
    #: Pause after the first failed try; each further one doubles it.
    base_seconds: float = 60.0
    #: Longest pause.
    cap_seconds: float = 3600.0
    #: Failed tries before a delivery waits for a person: with these pauses, about a day.
    attempts: int = 30
    #: Most objects sent over one association.
    batch: int = 100
    #: How often the outbox is looked at when nobody wakes the thread.
    poll_seconds: float = 5.0
    timeouts: Timeouts = field(default_factory=Timeouts)


class Destination:
    """One peer's share of the outbox."""

    def __init__(self, engine: Engine, peer: Peer, settings: DeliverySettings) -> None:
        self._engine = engine
        self._peer = peer
        self._settings = settings
        self._wake = threading.Event()
        self._stop = threading.Event()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the object that is being sent, then end."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Deliver until stopped."""
        while not self._stop.is_set():
            self._wake.clear()
            try:
                tried = self.deliver_due()
            except Exception:  # a destination's loop: what failed stays in the outbox
                logger.exception(
                    "delivery round failed, will go on",
                    extra={"event": "delivery_round_failed", "destination": self._peer.name},
                )
                tried = 0
            if tried < self._settings.batch:
                self._wake.wait(self._settings.poll_seconds)

    def deliver_due(self) -> int:
        """Try everything that is owed and due now; return how many deliveries that were.

        One association carries as many objects as its presentation contexts allow.
        """
        due = outbox.due(self._engine, self._peer.name, _now(), self._settings.batch)
        owed = self._readable(due)
        left = iter(owed)
        for batch in batches([item for _, item in owed]):
            self._send_batch(deque(islice(left, len(batch))))
        return len(due)

    def _readable(self, due: Iterable[Delivery]) -> list[tuple[Delivery, StoredObject]]:
        """Return each delivery with its stored object; park what the store has no more."""
        owed = []
        for delivery in due:
            try:
                owed.append((delivery, stored_object(delivery.path)))
            except FileNotFoundError:
                self._park(delivery, None, "its file is missing from the store")
            except DamagedFileError:
                self._park(delivery, None, "its file in the store is damaged")
        return owed

    def _send_batch(self, left: deque[tuple[Delivery, StoredObject]]) -> None:
        """Send over one association; what it did not live to carry stays due."""
        try:
            with associate(
                self._peer,
                contexts_for(item for _, item in left),
                calling_ae=self._settings.calling_ae,
                timeouts=self._settings.timeouts,
            ) as association:
                while left and not self._stop.is_set():
                    self._send(association, *left[0])
                    left.popleft()
        except AssociationLostError as error:
            self._postpone([left[0][0]], None, str(error))
        except (UnreachableError, AssociationRejectedError, NoContextError) as error:
            self._record_refused_association([delivery for delivery, _ in left], error)
        except Exception as error:
            if not left:
                raise
            # Whatever it is, it must not keep back what comes behind it.
            logger.exception("sending failed here", extra=_about(left[0][0], "sending_failed"))
            self._postpone([left[0][0]], None, f"sending failed here ({type(error).__name__})")

    def _send(self, association: Association, delivery: Delivery, item: StoredObject) -> None:
        try:
            status = store(self._peer, association, item)
        except NoContextError as error:
            self._refuse(delivery, None, str(error))
        else:
            self._settle(delivery, status)

    def _settle(self, delivery: Delivery, status: int) -> None:
        """Record what a C-STORE status means for the delivery (PS3.4 B.2.3, PS3.7 C)."""
        if status == 0x0000:
            outbox.delivered(self._engine, delivery, status, _now())
            logger.info("delivered", extra=_about(delivery, "delivered"))
        elif keeps(status):
            outbox.delivered(self._engine, delivery, status, _now())
            extra = {**_about(delivery, "delivered"), "status": f"0x{status:04X}"}
            logger.warning("delivered with a warning", extra=extra)
        elif 0xA700 <= status <= 0xA7FF or status in _TEMPORARY:
            self._postpone([delivery], status, f"no resources there now (0x{status:04X})")
        else:
            self._refuse(delivery, status, f"refused for good (0x{status:04X})")

    def _record_refused_association(
        self, deliveries: Sequence[Delivery], error: ConnectionError | NoContextError
    ) -> None:
        """Record the same for all that the association should have carried."""
        match error:
            case AssociationRejectedError():
                for delivery in deliveries:
                    self._park(delivery, None, str(error))
            case NoContextError():
                for delivery in deliveries:
                    self._refuse(delivery, None, str(error))
            case _:
                self._postpone(deliveries, None, str(error))

    def _postpone(self, deliveries: Sequence[Delivery], status: int | None, reason: str) -> None:
        """Put off what may succeed later, all to the same moment; park what had its tries."""
        settings = self._settings
        jitter = random.random()  # noqa: S311 - spreads retries, protects nothing
        now = _now()
        waits = []
        for delivery in deliveries:
            if delivery.attempt + 1 >= settings.attempts:
                self._park(delivery, status, f"{reason}; tried {settings.attempts} times")
                continue
            pause = retry_delay_seconds(
                delivery.attempt,
                base=settings.base_seconds,
                cap=settings.cap_seconds,
                jitter=jitter,
            )
            until = now + timedelta(seconds=pause)
            outbox.postpone(
                self._engine, delivery, status=status, reason=reason, not_before=until, now=now
            )
            waits.append(pause)
        if waits:
            logger.warning(
                "not delivered, will retry",
                extra={
                    "event": "delivery_postponed",
                    "destination": self._peer.name,
                    "objects": len(waits),
                    "reason": reason,
                    "retry_in_s": round(min(waits)),
                },
            )

    def _park(self, delivery: Delivery, status: int | None, reason: str) -> None:
        outbox.park(self._engine, delivery, status=status, reason=reason, now=_now())
        extra = {**_about(delivery, "delivery_parked"), "reason": reason}
        logger.error("not delivered, waits for a person", extra=extra)

    def _refuse(self, delivery: Delivery, status: int | None, reason: str) -> None:
        outbox.refuse(self._engine, delivery, status=status, reason=reason, now=_now())
        extra = {**_about(delivery, "delivery_refused"), "reason": reason}
        logger.error("refused by the destination", extra=extra)


class Deliveries:
    """The threads of all destinations, from start to stop."""

    def __init__(self, engine: Engine, peers: Iterable[Peer], settings: DeliverySettings) -> None:
        self._engine = engine
        self._destinations = [Destination(engine, peer, settings) for peer in peers]
        self._threads = [
            threading.Thread(target=destination.run, daemon=True)
            for destination in self._destinations
        ]

    def start(self) -> None:
        """Begin to deliver; no pause from before the start is waited for."""
        outbox.hasten(self._engine, _now())
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Have every destination look at its outbox now."""
        for destination in self._destinations:
            destination.wake()

    def stop(self, timeout_seconds: float) -> None:
        """End after the objects that are being sent; wait for all together at most so long."""
        deadline = time.monotonic() + timeout_seconds
        for destination in self._destinations:
            destination.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))


def _about(delivery: Delivery, event: str) -> dict[str, str | int]:
    return {
        "event": event,
        "task": delivery.task_id,
        "destination": delivery.destination,
        "sop_instance": delivery.sop_instance_uid,
        "attempt": delivery.attempt + 1,
    }


def _now() -> datetime:
    return datetime.now(UTC)
