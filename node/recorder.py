"""What has landed made durable, answered for, and brought into the store and the ledger."""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from node.disk import Disk
from node.entries import Entries
from node.keeping import SUCCESS, Keeping, Taken, concluded, taking
from node.landed import Landed, from_message
from node.landing import Landing
from node.ledger.instances import Added
from node.recorder_link import LONGEST_MESSAGE, LinkEnd, answer
from node.refusal import refused_for
from node.steps import at_once, begin
from node.unkept import Stored

logger = logging.getLogger(__name__)

#: An object of more bytes takes its time, in a thread of its own.
_LARGE = 1 << 21
#: So many that were answered for are filed together, or fewer when nothing has come for a while,
#: or when it has failed and is tried again.
_BATCH = 32
_WHILE_MS = 10
_LONGEST_SECONDS = 0.1
_AGAIN_MS = 1000


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """One instance that is durable, and waits for its place in the store and the ledger."""

    #: By which its sender waits for an answer.
    number: int
    taken: Taken
    #: Its sender has the answer: it must be filed, however often that is tried.
    is_told: bool = False
    failure: Exception | None = None


class Recorder:
    """Keeps what a receiver hands on: each made durable by itself, and many filed together.

    Filed is what lies in its place and is in the ledger. What a start would find again if all
    ended now is answered for before that; the rest afterwards.

    Parameters
    ----------
    entries
        Into the ledger.
    link
        To the receiver; see ``RecorderLink``.
    landing
        Where what is small lands, if a start finds it there; None: nothing is answered for before
        it is filed. To be closed by the caller.
    owed
        What was answered for by an earlier one, and is to be filed before anything else.
    """

    def __init__(
        self,
        entries: Entries,
        how: Keeping,
        link: LinkEnd,
        *,
        landing: Landing | None = None,
        owed: Iterable[Taken] = (),
    ) -> None:
        self._entries = entries
        self._how = how
        self._link = link.connection
        self._slots = link.slots
        self._landing = landing
        self._disk = Disk()
        #: How many have been heard of, and not been answered for.
        self._going = 0
        #: In the order in which they have become durable.
        self._waiting = [_Waiting(number=-1, taken=each, is_told=True) for each in owed]
        self._waiting_since = 0.0
        #: What is being filed, and of how many the disk has more to do.
        self._filing: list[_Waiting] = []
        self._unfiled = 0
        #: Who wants to know when all that waits is filed, and who when this is.
        self._asked: list[int] = []
        self._asked_before: list[int] = []
        #: Something that was answered for could not be filed when that was last tried.
        self._is_behind = False
        #: Threads that keep something large, by its number, and what they have come to.
        self._large: dict[int, threading.Thread] = {}
        self._taken_large: deque[tuple[int, Landed, Taken | int]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_heard = True
        self._hearing: dict[int, Callable[[], None]] = {
            self._wake: self._hear_of_large,
            self._disk.fileno(): self._disk.hear,
            self._link.fileno(): self._hear,
        }
        self._poll = select.poll()
        for descriptor in self._hearing:
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Keep what comes until the receiver closes the link, and finish that."""
        while self._is_heard or self._going or self._filing or self._owes_more():
            self._take_turn()

    def start(self) -> None:
        """Try to file what is owed, before anything can come."""
        if self._waiting:
            self._begin_to_file()
        while self._filing:
            self._take_turn()
        self._refill()

    def close(self) -> None:
        """Let go of what it holds; what is owed stays where it has landed."""
        self._disk.close()
        for each in self._waiting:
            each.taken.unkept.close()
        os.close(self._wake)

    def _take_turn(self) -> None:
        """Wait for whatever comes first, and do what there is to do then."""
        ready = self._poll.poll(self._patience_ms())
        for descriptor, _ in ready:
            self._hearing[descriptor]()
        if self._is_due(is_calm=not ready):
            self._begin_to_file()
        if self._filing and not self._unfiled:
            self._end_filing()

    def _owes_more(self) -> bool:
        """Return whether something waits to be filed that is worth a try before the end."""
        return bool(self._waiting) and not self._is_behind

    def _patience_ms(self) -> int | None:
        if self._filing:
            return None if self._unfiled else 0
        if not self._waiting:
            return None
        return _AGAIN_MS if self._is_behind else _WHILE_MS

    def _is_due(self, *, is_calm: bool) -> bool:
        if not self._waiting or self._filing:
            return False
        someone_waits = bool(self._asked) or any(not each.is_told for each in self._waiting)
        if is_calm or someone_waits:
            return True
        is_long = time.monotonic() - self._waiting_since > _LONGEST_SECONDS
        return not self._is_behind and (is_long or len(self._waiting) >= _BATCH)

    def _hear(self) -> None:
        """Begin to keep what the receiver hands on."""
        while True:
            try:
                message = self._link.recv(LONGEST_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                # Told once, of what the other side has left unread; what it has sent follows.
                continue
            if not message:
                self._is_heard = False
                self._poll.unregister(self._link)
                return
            number, landed = from_message(message)
            if landed is not None:
                self._begin(number, landed, message)
            elif self._waiting or self._filing:
                self._asked.append(number)
            else:
                self._answer(number, SUCCESS)

    def _begin(self, number: int, landed: Landed, message: bytes) -> None:
        self._going += 1
        if landed.part.size > _LARGE:
            # Nobody else shall wait until it is walked.
            thread = threading.Thread(target=self._take_large, args=(number, landed), daemon=True)
            self._large[number] = thread
            thread.start()
            return
        # Nobody lands beside the order of what is owed.
        landing = None if self._is_behind else self._landing
        steps = taking(landed, message, self._how, self._slots, landing)
        begin(steps, self._disk, partial(self._note, number, landed))

    def _note(self, number: int, landed: Landed, taken: Taken | int | Exception) -> None:
        """Note what has become durable, and answer for it or for what is refused."""
        if isinstance(taken, Exception):
            taken = refused_for(taken, landed.reception)
        if isinstance(taken, int):
            self._tell(number, taken)
            return
        waiting = _Waiting(number=number, taken=taken)
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting.append(waiting)
        if taken.is_safe and not self._is_behind:
            taken.unkept.owe()
            waiting.is_told = True
            self._tell(number, SUCCESS)

    def _take_large(self, number: int, landed: Landed) -> None:
        try:
            taken = at_once(taking(landed, b"", self._how, self._slots))
            self._taken_large.append((number, landed, taken))
            os.eventfd_write(self._wake, 1)
        except BaseException:
            # Whoever waits would wait for ever: this process ends, and another one begins.
            logger.exception("the recorder fails", extra={"event": "process_failed"})
            os._exit(1)

    def _hear_of_large(self) -> None:
        # In this order: whoever is missed here wakes once more.
        os.eventfd_read(self._wake)
        for _ in range(len(self._taken_large)):
            number, landed, taken = self._taken_large.popleft()
            self._large.pop(number).join()
            self._note(number, landed, taken)

    def _begin_to_file(self) -> None:
        """Begin to bring all that wait to their places in the store."""
        self._filing, self._waiting = self._waiting, []
        self._asked_before, self._asked = self._asked, []
        self._unfiled = len(self._filing)
        for each in self._filing:
            begin(each.taken.unkept.filing(), self._disk, partial(self._note_filed, each))

    def _note_filed(self, waiting: _Waiting, filed: Stored | Exception) -> None:
        waiting.failure = filed if isinstance(filed, Exception) else None
        self._unfiled -= 1

    def _end_filing(self) -> None:
        """Enter what is in its place into the ledger, and say what has become of each."""
        filed, self._filing = self._filing, []
        behind = []
        for waiting, outcome in zip(filed, self._entered(filed), strict=True):
            if waiting.is_told and isinstance(outcome, Exception):
                waiting.failure = outcome
                behind.append(waiting)
            else:
                self._conclude(waiting, outcome)
        self._waiting[:0] = behind
        if not self._waiting:
            # Also who has asked meanwhile: there is nothing to wait for.
            self._asked_before += self._asked
            self._asked = []
        for number in self._asked_before:
            self._answer(number, SUCCESS)
        self._asked_before = []
        self._note_behind(behind)
        self._refill()

    def _entered(self, filed: Sequence[_Waiting]) -> list[Added | Exception]:
        """Return what each meant to the ledger, or why it is not in its place or not there."""
        failed: dict[str, Exception] = {}
        for each in filed:
            # What came later under a UID must not be in the ledger earlier.
            uid = each.taken.landed.sop_instance_uid
            each.failure = each.failure or failed.get(uid)
            if each.failure is not None:
                failed[uid] = each.failure
        fit = [each.taken.arrived for each in filed if each.failure is None]
        entered = iter(self._entries.enter(fit) if fit else ())
        return [each.failure or next(entered) for each in filed]

    def _conclude(self, waiting: _Waiting, outcome: Added | Exception) -> None:
        taken = waiting.taken
        status = concluded(taken.landed, taken.arrived, outcome)
        if not waiting.is_told:
            self._tell(waiting.number, status)
        taken.unkept.settle()
        taken.unkept.close()

    def _note_behind(self, behind: Sequence[_Waiting]) -> None:
        """Say when filing begins to fail, and when it is well again."""
        if bool(behind) == self._is_behind:
            return
        self._is_behind = bool(behind)
        if behind:
            reason = type(behind[0].failure).__name__
            logger.error(
                "images that were acknowledged cannot be brought into store and ledger: they are "
                "safe where they have landed and it is tried again; look after disk and ledger",
                extra={"event": "filing_failed", "count": len(behind), "reason": reason},
            )
        else:
            logger.info("all that was acknowledged is filed", extra={"event": "filing_resumed"})

    def _refill(self) -> None:
        if self._landing is not None and self._landing.is_low():
            # Without spares, for want of room, say, each is answered for when it is filed.
            begin(self._landing.refilling(), self._disk, lambda _: None)

    def _tell(self, number: int, status: int) -> None:
        self._going -= 1
        self._answer(number, status)

    def _answer(self, number: int, status: int) -> None:
        try:
            self._link.send(answer(number, status))
        except ConnectionError:
            # The receiver is gone, and whoever it has received from knows it.
            return
