"""The messages of an association, put together from fragments; here C-STORE, elsewhere the rest."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Generic, NamedTuple, Protocol, TypeVar

from node.command_set import StoreRequest, read_command
from node.upper_layer import P_DATA, Fragment, ProtocolError, fragments, pdu_head

_LARGEST_COMMAND = 1 << 16
#: Of one message that is no C-STORE, and so is held in memory by whoever takes it.
_LARGEST_OTHER = 1 << 23


class Arriving(Protocol):
    """One instance on its way in."""

    def write(self, content: memoryview) -> None:
        """Take the next piece of its data set; never raises."""

    def close(self) -> None:
        """Leave nothing of what was not kept."""


A = TypeVar("A", bound=Arriving)


class Whole(NamedTuple, Generic[A]):
    """A C-STORE request whose data set is here, and which waits for its answer."""

    request: StoreRequest
    context_id: int
    #: None: no data set follows.
    arriving: A | None


class Taken(NamedTuple, Generic[A]):
    """What a PDU has led to."""

    #: PDUs that another service must read.
    others: list[bytes]
    #: To be closed by whoever is given them.
    whole: list[Whole[A]]


class _Awaited(Enum):
    COMMAND = auto()
    DATA_SET = auto()
    #: The data set of a message that is no C-STORE.
    OTHER = auto()


class Messages(Generic[A]):
    """Takes the C-STORE requests of an association, and returns what belongs to other services.

    Parameters
    ----------
    storable
        Transfer syntaxes of the presentation contexts over which instances may come, by number.
    begin
        Begins to take one instance, which is encoded in that transfer syntax.
    """

    def __init__(
        self, storable: Mapping[int, str], begin: Callable[[StoreRequest, str], A]
    ) -> None:
        self._storable = storable
        self._begin = begin
        self._awaited = _Awaited.COMMAND
        self._context_id = 0
        self._command = bytearray()
        self._request: StoreRequest | None = None
        self._arriving: A | None = None
        self._whole: list[Whole[A]] = []
        #: PDUs of a message that is not known to be a C-STORE, and their bytes so far.
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._is_other = False

    @property
    def is_amid(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._awaited is not _Awaited.COMMAND or bool(self._command)

    def take(self, body: memoryview) -> Taken[A]:
        """Take the body of a P-DATA-TF PDU.

        Raises
        ------
        ProtocolError
            The fragments do not make messages (PS3.7 6.3.1, PS3.8 annex E), or one that is no
            C-STORE is too large.
        """
        if self._awaited is not _Awaited.DATA_SET:
            self._keep(pdu_head(P_DATA, len(body)) + bytes(body))
        for fragment in fragments(body):
            self._take_fragment(fragment)
        whole, self._whole = self._whole, []
        return Taken(self._others(), whole)

    def close(self) -> None:
        """Drop what has not come whole, or was not given away."""
        for each in (self._arriving, *(whole.arriving for whole in self._whole)):
            if each is not None:
                each.close()
        self._whole.clear()
        self._arriving = None
        self._awaited = _Awaited.COMMAND
        self._command.clear()
        self._forget_kept()
        self._is_other = False

    def _others(self) -> list[bytes]:
        if self._is_other:
            others, self._kept = self._kept, []
            self._is_other = self._awaited is _Awaited.OTHER
            if not self._is_other:
                self._kept_bytes = 0
            return others
        if self._awaited is _Awaited.DATA_SET or not self.is_amid:
            self._forget_kept()
        return []

    def _keep(self, pdu: bytes) -> None:
        self._kept_bytes += len(pdu)
        if self._kept_bytes > _LARGEST_OTHER:
            raise ProtocolError(f"a message of more than {_LARGEST_OTHER} bytes is no C-STORE")
        self._kept.append(pdu)

    def _forget_kept(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    def _take_fragment(self, fragment: Fragment) -> None:
        if self.is_amid and fragment.context_id != self._context_id:
            raise ProtocolError("a message changes its presentation context")
        if fragment.is_command != (self._awaited is _Awaited.COMMAND):
            raise ProtocolError("command set and data set come in the wrong order")
        match self._awaited:
            case _Awaited.COMMAND:
                self._take_command(fragment)
            case _Awaited.DATA_SET:
                self._take_data(fragment)
            case _Awaited.OTHER if fragment.is_last:
                self._awaited = _Awaited.COMMAND

    def _take_command(self, fragment: Fragment) -> None:
        if self._is_other:
            raise ProtocolError("two messages share a PDU, and not both are C-STORE")
        self._context_id = fragment.context_id
        self._command += fragment.content
        if len(self._command) > _LARGEST_COMMAND:
            raise ProtocolError(f"a command set of more than {_LARGEST_COMMAND} bytes")
        if not fragment.is_last:
            return
        command = read_command(bytes(self._command))
        self._command.clear()
        if command is None or not command.is_complete:
            raise ProtocolError("a command set that cannot be read")
        request = command.store_request
        if request is not None and fragment.context_id in self._storable:
            self._begin_instance(request)
            return
        if self._whole or not self._kept:
            raise ProtocolError("two messages share a PDU, and not both are C-STORE")
        self._is_other = True
        if command.has_data_set:
            self._awaited = _Awaited.OTHER

    def _begin_instance(self, request: StoreRequest) -> None:
        if not request.has_data_set:
            self._whole.append(Whole(request, self._context_id, None))
            return
        self._request = request
        self._arriving = self._begin(request, self._storable[self._context_id])
        self._awaited = _Awaited.DATA_SET

    def _take_data(self, fragment: Fragment) -> None:
        if self._arriving is None or self._request is None:
            raise ProtocolError("a data set without a command")
        self._arriving.write(fragment.content)
        if fragment.is_last:
            self._whole.append(Whole(self._request, self._context_id, self._arriving))
            self._arriving = None
            self._awaited = _Awaited.COMMAND
