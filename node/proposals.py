"""Requests to associate, decoded once: a sender proposes the same contexts every time.

To decode them is most of what an association costs.
"""

import copy
import threading
from collections import OrderedDict
from functools import partial

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import UserIdentityNegotiation

#: Kept of those that came last.
_MOST = 16
#: Bytes of a request that is kept: enough for 128 contexts, and little of what a liar may send.
_LONGEST = 1 << 14


class Proposals:
    """The requests that came last; for any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, A_ASSOCIATE_RQ] = OrderedDict()
        self._lock = threading.Lock()

    def decoded(self, pdu: bytes) -> A_ASSOCIATE_RQ:
        """Return a request, decoded; it may belong to others, too, and stays as it is.

        Raises
        ------
        Exception
            It cannot be decoded.
        """
        with self._lock:
            known = self._known.get(pdu)
        if known is None:
            # Outside of the lock: what is sent to take long shall keep nobody else waiting.
            known = _decoded(pdu)
        if len(pdu) <= _LONGEST and not _is_secret(known):
            self._keep(pdu, known)
        return known

    def _keep(self, pdu: bytes, request: A_ASSOCIATE_RQ) -> None:
        with self._lock:
            self._known[pdu] = request
            self._known.move_to_end(pdu)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)


def _decoded(pdu: bytes) -> A_ASSOCIATE_RQ:
    request = A_ASSOCIATE_RQ()
    request.decode(pdu)
    # Made once; each association has its own, and what is in it is shared.
    made = request.to_primitive()
    request.to_primitive = partial(copy.copy, made)  # type: ignore[method-assign]
    return request


def _is_secret(request: A_ASSOCIATE_RQ) -> bool:
    """Return whether it shows who somebody is: a password, say."""
    items = request.to_primitive().user_information
    return any(isinstance(each, UserIdentityNegotiation) for each in items)
