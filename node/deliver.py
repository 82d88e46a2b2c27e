"""The outbox on its way: one thread per destination, each at its own pace.

At least once: an object may be sent again after a crash, always under the same UID.
"""

import logging
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

from pynetdicom.association import Association

from dicom_io.errors import DamagedFileError
from node.answer import Answer, Fate, answer_of
from node.asking import Asker, ConfirmSettings
from node.config import Peer
from node.confirm import confirm_due, wanted
from node.dicomweb import (
    RefusedEverythingError,
    UnclearAnswerError,
    store_over_web,
    web_batches,
)
from node.errors import retry_delay_seconds
from node.ledger import confirmations, outbox
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
    store,
    stored_object,
)
from node.profiles import FALLBACKS
from node.task import Delivery

logger = logging.getLogger(__name__)


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
    confirm: ConfirmSettings = field(default_factory=ConfirmSettings)


_Owed = tuple[Delivery, StoredObject]


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
                self.confirm_due()
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

        One association carries as many objects as its presentation contexts allow, one request of
        STOW-RS as many as are not too large for it.
        """
        due = outbox.due(self._engine, self._peer.name, _now(), self._settings.batch)
        owed = self._readable(due)
        left = iter(owed)
        items = [item for _, item in owed]
        if self._peer.url:
            self._post(deque(tuple(islice(left, len(batch))) for batch in web_batches(items)))
        else:
            for batch in batches(items):
                self._send_batch(deque(islice(left, len(batch))))
        return len(due)

    def confirm_due(self) -> None:
        """Ask what is due of what was delivered."""
        settings = self._settings
        asker = Asker(
            engine=self._engine,
            peer=self._peer,
            calling_ae=settings.calling_ae,
            settings=settings.confirm,
            base_seconds=settings.base_seconds,
            cap_seconds=settings.cap_seconds,
            timeouts=settings.timeouts,
        )
        confirm_due(asker)

    def _readable(self, due: Iterable[Delivery]) -> list[_Owed]:
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

    def _send_batch(self, left: deque[_Owed]) -> None:
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
        if not outbox.still_owed(self._engine, delivery):
            return
        sys.audit("pellucid.deliver.sending")
        try:
            status = store(self._peer, association, item)
        except NoContextError as error:
            self._refuse(delivery, None, str(error))
        else:
            self._settle(delivery, answer_of(status))

    def _post(self, left: deque[tuple[_Owed, ...]]) -> None:
        """Send by STOW-RS, batch after batch; what a service out of reach was not sent stays due.

        A request that is not accepted as a whole is sent once more, object by object.
        """
        while left and not self._stop.is_set():
            batch = self._still_owed(left.popleft())
            try:
                answers = self._posted(batch)
            except (UnreachableError, RefusedEverythingError) as error:
                rest = [delivery for each in (batch, *left) for delivery, _ in each]
                self._record_refused_association(rest, error)
                return
            except Exception as error:
                if len(batch) == 1:
                    (delivery, _), name = batch[0], type(error).__name__
                    logger.exception(
                        "sending failed here", extra=_about(delivery, "sending_failed")
                    )
                    self._postpone([delivery], None, f"sending failed here ({name})")
                    continue
                answers = None
            if answers is None:
                left.extendleft((each,) for each in reversed(batch))
                continue
            for (delivery, _), answer in zip(batch, answers, strict=True):
                self._settle(delivery, answer)

    def _still_owed(self, batch: Iterable[_Owed]) -> tuple[_Owed, ...]:
        return tuple(each for each in batch if outbox.still_owed(self._engine, each[0]))

    def _posted(self, batch: Sequence[_Owed]) -> Sequence[Answer] | None:
        """Return what came of each object; None if each must be sent alone to know."""
        items = [item for _, item in batch]
        if not items:
            return ()
        sys.audit("pellucid.deliver.sending")
        try:
            return store_over_web(self._peer, items, timeouts=self._settings.timeouts)
        except UnclearAnswerError as error:
            return [error.answer] if len(batch) == 1 else None

    def _settle(self, delivery: Delivery, answer: Answer) -> None:
        """Record what an answer means for the delivery."""
        sys.audit("pellucid.deliver.answered")
        match answer.fate:
            case Fate.DELIVERED:
                self._delivered(delivery, answer.status or 0x0000)
            case Fate.POSTPONED:
                self._postpone([delivery], answer.status, answer.reason)
            case Fate.PARKED:
                self._park(delivery, answer.status, answer.reason)
            case Fate.REFUSED:
                self._refuse(delivery, answer.status, answer.reason)

    def _delivered(self, delivery: Delivery, status: int) -> None:
        confirm = wanted(self._peer)
        outbox.delivered(self._engine, delivery, status, _now(), confirm=confirm)
        sys.audit("pellucid.deliver.recorded")
        if status == 0x0000:
            logger.info("delivered", extra=_about(delivery, "delivered"))
        else:
            extra = {**_about(delivery, "delivered"), "status": f"0x{status:04X}"}
            logger.warning("delivered with a warning", extra=extra)

    def _record_refused_association(
        self, deliveries: Sequence[Delivery], error: ConnectionError | NoContextError
    ) -> None:
        """Record the same for all that the association should have carried."""
        match error:
            case AssociationRejectedError() | RefusedEverythingError():
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
        outbox.refuse(
            self._engine,
            delivery,
            status=status,
            reason=reason,
            now=_now(),
            instead=FALLBACKS,
        )
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
        confirmations.hasten(self._engine, _now())
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
