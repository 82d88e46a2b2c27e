"""DICOMweb as a client: objects go out by STOW-RS (PS3.18 10.5).

The token is a header of the session and nothing else: no message and no log line holds it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread

from node.answer import Answer, Fate, answer_of
from node.config import Peer
from node.peer import Echo, StoredObject, Timeouts, UnreachableError
from node.quiet import quiet_libraries

#: One request holds at most so much: its body exists several times in memory while it is sent.
_LARGEST_BATCH = 32_000_000
_MOST_OBJECTS = 50
_JSON = "application/dicom+json"
_SOP_INSTANCE_UID = "00080018"
_T = TypeVar("_T")
#: What a data set or an answer that is not one makes the libraries raise.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ParseError)


class UnclearAnswerError(RuntimeError):
    """The request as a whole was not accepted, or its answer names no object.

    Sent alone, each object gets an answer of its own.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        #: What it means for an object that was sent alone.
        self.answer = answer


class RefusedEverythingError(ConnectionError):
    """The service takes nothing from this node; a person must change a setting here or there."""


def web_batches(objects: Sequence[StoredObject]) -> Iterator[tuple[StoredObject, ...]]:
    """Cut the objects, in order, into runs that one request may carry."""
    batch: list[StoredObject] = []
    held = 0
    for item in objects:
        size = item.path.stat().st_size
        if batch and (held + size > _LARGEST_BATCH or len(batch) >= _MOST_OBJECTS):
            yield tuple(batch)
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield tuple(batch)


def store_over_web(
    peer: Peer, objects: Sequence[StoredObject], *, timeouts: Timeouts
) -> tuple[Answer, ...]:
    """Send the objects in one STOW-RS request and return what came of each, in order.

    An object counts as delivered only where the answer names it as stored: a page of a proxy may
    have status 200, too.

    Raises
    ------
    UnreachableError
        No connection, no answer in time, or the service is overloaded: a later try may succeed.
    RefusedEverythingError
        Wrong address, wrong token, or a certificate that is not trusted.
    UnclearAnswerError
        See there.
    """
    datasets = [dcmread(item.path) for item in objects]
    try:
        with _client(peer, timeouts) as client:
            content = client.store_instances(datasets)
    except _UNREADABLE as error:
        reason = f"{peer.name} answers with something that is no answer to STOW-RS"
        raise UnclearAnswerError(Answer(fate=Fate.POSTPONED, reason=reason)) from error
    except requests.RequestException as error:
        response = error.response
        if response is not None and response.status_code == 409:
            return _answers_of_conflict(peer, objects, response)
        _raise(_failed_request(peer, error), error)
    return _named_answers(peer, objects, content)


def listed_over_web(
    peer: Peer, series: tuple[str, str], *, only: str = "", timeouts: Timeouts
) -> frozenset[str]:
    """Return the SOP Instance UIDs that the service lists in a series (QIDO-RS, PS3.18 10.6).

    Parameters
    ----------
    series
        Study Instance UID and Series Instance UID.
    only
        SOP Instance UID to ask for; empty for all.

    Raises
    ------
    UnreachableError
        No connection, no answer in time, or none that can be read.
    RefusedEverythingError
        The service lists nothing to this node.
    """
    filters = {"SOPInstanceUID": only} if only else None

    def ask(client: DICOMwebClient) -> frozenset[str]:
        matches = client.search_for_instances(*series, search_filters=filters)
        return frozenset(str(match[_SOP_INSTANCE_UID]["Value"][0]) for match in matches)

    found = _asked(peer, ask, timeouts)
    return frozenset() if found is None else found


def search_over_web(
    peer: Peer,
    study_instance_uid: str,
    filters: Mapping[str, str],
    *,
    fields: Sequence[str],
    timeouts: Timeouts,
) -> tuple[Dataset, ...]:
    """Return the studies that match, or the series of a study; raises as ``listed_over_web``."""

    def ask(client: DICOMwebClient) -> tuple[Dataset, ...]:
        if study_instance_uid:
            matches = client.search_for_series(study_instance_uid, search_filters=dict(filters))
        else:
            matches = client.search_for_studies(search_filters=dict(filters), fields=fields)
        return tuple(Dataset.from_json(match) for match in matches)

    return _asked(peer, ask, timeouts) or ()


def retrieved_over_web(
    peer: Peer, series: tuple[str, str], *, timeouts: Timeouts
) -> tuple[Dataset, ...]:
    """Return the instances of a series (WADO-RS, PS3.18 10.4); raises as ``listed_over_web``."""
    return _asked(peer, lambda client: tuple(client.retrieve_series(*series)), timeouts) or ()


def echo_over_web(peer: Peer, *, timeouts: Timeouts) -> Echo:
    """Ask the service for one study of any patient and say in words what came of it (QIDO-RS)."""
    start = time.monotonic()
    ok, message = True, f"{peer.name} ({peer.url}) answers"
    try:
        with _client(peer, timeouts) as client:
            client.search_for_studies(limit=1, fields=["StudyInstanceUID"])
    except _UNREADABLE:
        ok, message = False, f"{peer.name} ({peer.url}) answers, but not as DICOMweb does"
    except requests.RequestException as error:
        ok, message = False, _failed_request(peer, error).reason
    return Echo(ok=ok, message=message, seconds=time.monotonic() - start)


def _asked(peer: Peer, ask: Callable[[DICOMwebClient], _T], timeouts: Timeouts) -> _T | None:
    """Return what the service answers; None where it says that there is no such thing."""
    try:
        with _client(peer, timeouts) as client:
            return ask(client)
    except _UNREADABLE as error:
        raise UnreachableError(f"{peer.name} answers a search not as DICOMweb does") from error
    except requests.RequestException as error:
        if error.response is not None and error.response.status_code == 404:
            return None
        answer = _failed_request(peer, error)
        if answer.fate is Fate.POSTPONED:
            raise UnreachableError(answer.reason) from error
        raise RefusedEverythingError(answer.reason) from error


@contextmanager
def _client(peer: Peer, timeouts: Timeouts) -> Iterator[DICOMwebClient]:
    quiet_libraries()
    with requests.Session() as session:
        # Neither proxies nor somebody's ~/.netrc: only the configuration says where and as whom.
        session.trust_env = False
        # Followed, a redirected POST becomes a GET without objects that ends with 200.
        session.max_redirects = 0
        session.verify = True if peer.ca is None else str(peer.ca)
        session.headers["Accept"] = _JSON
        if peer.token:
            scheme = "" if " " in peer.token else "Bearer "
            session.headers["Authorization"] = f"{scheme}{peer.token}"
        client = DICOMwebClient(
            peer.url.rstrip("/"),
            session=session,
            callback=_without_parameters,
            timeout=(timeouts.connect, timeouts.response),
        )
        # It would leave the port out of the Host header.
        client.host = urlsplit(peer.url).netloc
        client.set_http_retry_params(retry=False)
        yield client


def _without_parameters(
    response: requests.Response, *_: object, **_named: object
) -> requests.Response:
    """Leave only the media type: the library knows an answer by it, without ``; charset=``."""
    content_type = response.headers.get("Content-Type", "")
    media_type = content_type.split(";")[0].strip().lower()
    # Of several parts the boundary must be known.
    multipart = media_type.startswith("multipart/")
    response.headers["Content-Type"] = content_type if multipart else media_type
    return response


def _named_answers(
    peer: Peer, objects: Sequence[StoredObject], content: Dataset
) -> tuple[Answer, ...]:
    """Return what the Store Instances Response Module says of each object (PS3.18 I.2)."""
    try:
        found = {
            str(item.ReferencedSOPInstanceUID): answer_of(int(item.get("WarningReason") or 0))
            for item in content.get("ReferencedSOPSequence") or ()
        }
        found |= {
            str(item.ReferencedSOPInstanceUID): _failure(item.get("FailureReason"))
            for item in content.get("FailedSOPSequence") or ()
        }
    except _UNREADABLE:
        found = {}
    if not found.keys() & {item.sop_instance_uid for item in objects}:
        reason = f"{peer.name} accepts the request but names no object that it stored"
        raise UnclearAnswerError(Answer(fate=Fate.POSTPONED, reason=reason))
    unnamed = Answer(fate=Fate.POSTPONED, reason=f"{peer.name} says nothing of this object")
    return tuple(found.get(item.sop_instance_uid, unnamed) for item in objects)


def _failure(reason: object) -> Answer:
    if reason is None:
        return Answer(fate=Fate.POSTPONED, reason="not stored there, for no reason that is told")
    status = int(str(reason))
    if status in (0x0122, 0xC122):
        what = "SOP class" if status == 0x0122 else "transfer syntax"
        words = f"refused for good: this {what} is not supported there (0x{status:04X})"
        return Answer(fate=Fate.REFUSED, status=status, reason=words)
    answer = answer_of(status)
    # A failure is a failure, also with the number of a warning.
    return answer if answer.fate is not Fate.DELIVERED or status == 0x0111 else _failure(None)


def _answers_of_conflict(
    peer: Peer, objects: Sequence[StoredObject], response: requests.Response
) -> tuple[Answer, ...]:
    """Return what a 409, of which nothing was stored, says of each object."""
    try:
        content = Dataset.from_json(response.json())
    except _UNREADABLE as error:
        reason = f"{peer.name} stored nothing, for no reason that can be read (HTTP 409)"
        raise UnclearAnswerError(Answer(fate=Fate.POSTPONED, reason=reason)) from error
    return _named_answers(peer, objects, content)


def _raise(answer: Answer, error: requests.RequestException) -> NoReturn:
    """Raise what an answer to all of a request means for the objects in it."""
    match answer.fate:
        case Fate.REFUSED:
            raise UnclearAnswerError(answer) from error
        case Fate.PARKED:
            raise RefusedEverythingError(answer.reason) from error
    raise UnreachableError(answer.reason) from error


def _failed_request(peer: Peer, error: requests.RequestException) -> Answer:
    """Return what became of a request, in words of ours: the library's quote memory addresses."""
    place = f"{peer.name} ({peer.url})"
    match error:
        case requests.HTTPError() if error.response is not None:
            return _told(peer, error.response)
        case requests.TooManyRedirects():
            what = "sends us elsewhere, which is not followed: mend url of the peer"
            return Answer(fate=Fate.PARKED, reason=f"{place} {what}")
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            what = (
                "shows a certificate that is not trusted: mend it there, or name the authority "
                "that signed it with ca of the peer"
            )
            return Answer(fate=Fate.PARKED, reason=f"{place} {what}")
    return Answer(fate=Fate.POSTPONED, reason=f"{place} {_why_unreachable(error)}")


def _why_unreachable(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "cannot be reached: no answer; is the host up, does a firewall stand between?"
    if isinstance(error, requests.Timeout):
        return "gave no answer in time"
    if "NameResolutionError" in str(error):
        return "cannot be reached: the host name is not known"
    if "Connection refused" in str(error):
        return "cannot be reached: connection refused; does it run, is the port right?"
    return "ended the connection before it answered"


def _told(peer: Peer, response: requests.Response) -> Answer:
    """Return what an HTTP status of failure means, in words (PS3.18 Table 10.5.3-1, RFC 9110)."""
    code = response.status_code
    if code in (401, 403, 407):
        what = "refuses the token" if peer.token else "asks for a token"
        words = f"{peer.name} {what} (HTTP {code}): mend token of the peer, restart the node"
        return Answer(fate=Fate.PARKED, reason=words)
    if code in (404, 405, 410):
        words = f"{peer.name} has no such service at {peer.url} (HTTP {code}): mend url of the peer"
        return Answer(fate=Fate.PARKED, reason=words)
    if code in (400, 406, 411, 413, 415, 422):
        why = {413: "too large for it", 415: "of a kind that it does not take"}
        words = f"refused for good: {why.get(code, 'the request was not accepted')} (HTTP {code})"
        return Answer(fate=Fate.REFUSED, reason=words)
    if code >= 500 or code in (408, 425, 429):
        words = f"{peer.name} has no resources now or fails (HTTP {code})"
        return Answer(fate=Fate.POSTPONED, reason=words)
    return Answer(fate=Fate.PARKED, reason=f"{peer.name} answers with HTTP {code}: ask who runs it")
