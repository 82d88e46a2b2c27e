"""Reading back: after delivery a destination is asked whether it lists what it has taken.

By C-FIND, or by QIDO-RS where the peer has a url. What it does not list is sent again.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from pydicom import dcmread

from dicom_io.header import PARSE_ERRORS
from node.asking import Asker, about, ask_again, give_up
from node.dicomweb import RefusedEverythingError, listed_over_web
from node.ledger import confirmations
from node.peer import AssociationRejectedError, NoContextError
from node.query import listed
from node.task import Confirmation, ConfirmationKind

logger = logging.getLogger(__name__)

_Series = tuple[str, str]


def read_back_due(asker: Asker) -> int:
    """Look for everything that is due now and return of how many objects that was."""
    due = confirmations.due(
        asker.engine,
        asker.peer.name,
        ConfirmationKind.READBACK,
        datetime.now(UTC),
        limit=asker.settings.batch,
    )
    placed = [(series, each) for each in due if (series := _series_of(asker, each)) is not None]
    placed.sort(key=lambda pair: pair[0])
    for series, pairs in groupby(placed, key=lambda pair: pair[0]):
        _look(asker, series, [each for _, each in pairs])
    return len(due)


def _series_of(asker: Asker, each: Confirmation) -> _Series | None:
    """Return study and series of an object by its file; without one nothing can be sent again."""
    try:
        header = dcmread(each.path, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"])
        return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
    except PARSE_ERRORS:
        give_up(asker, each, "its file is missing from the store, or damaged")
        return None


def _look(asker: Asker, series: _Series, owed: Sequence[Confirmation]) -> None:
    """Look for objects of one series; all share what comes of it where nobody answers."""
    try:
        there = _present(asker, series, owed)
    except (AssociationRejectedError, NoContextError, RefusedEverythingError) as error:
        for each in owed:
            give_up(asker, each, f"whether it is there cannot be asked: {error}")
    except ConnectionError as error:
        for each in owed:
            ask_again(asker, each, f"whether it is there was not answered: {error}")
    else:
        for each in owed:
            (_found if each.sop_instance_uid in there else _missed)(asker, each)


def _present(asker: Asker, series: _Series, owed: Sequence[Confirmation]) -> frozenset[str]:
    there = _listed(asker, series, only="")
    for each in owed:
        # A PACS may cut a long list off: what is not in it is asked for by itself.
        if each.sop_instance_uid not in there:
            there |= _listed(asker, series, only=each.sop_instance_uid)
    return there


def _listed(asker: Asker, series: _Series, *, only: str) -> frozenset[str]:
    if asker.peer.url:
        return listed_over_web(asker.peer, series, only=only, timeouts=asker.timeouts)
    return listed(
        asker.peer, series, only=only, calling_ae=asker.calling_ae, timeouts=asker.timeouts
    )


def _found(asker: Asker, each: Confirmation) -> None:
    confirmations.confirm(asker.engine, each, datetime.now(UTC))
    logger.info("found there", extra=about(each, "read_back"))


def _missed(asker: Asker, each: Confirmation) -> None:
    """Look again later, since a PACS may list an object some time after it has taken it."""
    reason = f"{asker.peer.name} does not list it"
    if each.attempt + 1 < asker.settings.looks:
        ask_again(asker, each, reason)
        return
    confirmations.lacking(
        asker.engine,
        each,
        reason=reason,
        resending=asker.settings.resending,
        now=datetime.now(UTC),
    )
    logger.warning("not found there", extra=about(each, "not_read_back"))
