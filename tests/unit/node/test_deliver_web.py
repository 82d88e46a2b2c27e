"""Delivery by STOW-RS: what is named as stored is delivered, anything else waits or is told."""

import logging
import socket
import ssl
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from node.config import Peer
from node.deliver import DeliverySettings, Destination
from node.dicomweb import echo_over_web
from node.ledger import outbox
from node.ledger.status import backlogs, summary
from node.peer import Timeouts
from node.task import DeliveryState
from tests.build_ledger import new_ledger, owe
from tests.peers import require
from tests.web_server import WebAnswer, failed, module, stored, web_server

QUICK = DeliverySettings(
    calling_ae="PELLUCID",
    base_seconds=0.0,
    attempts=4,
    timeouts=Timeouts(connect=10.0, association=1.0, response=20.0, network=1.0),
)
_JSON = {"Content-Type": "application/dicom+json"}
_HTML = {"Content-Type": "text/html"}
SECRET = "canary-token-4711"
WAITING, DELIVERED = DeliveryState.WAITING, DeliveryState.DELIVERED
PARKED, REFUSED = DeliveryState.PARKED, DeliveryState.REFUSED


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def peer_at(url: str, *, token: str = "", ca: Path | None = None) -> Peer:
    return Peer(name="cloud", url=url, token=token, ca=ca)


def deliver(engine, server, **peer) -> int:
    return Destination(engine, peer_at(server.url, **peer), QUICK).deliver_due()


def states(engine, task) -> list[tuple[DeliveryState, int, int | None]]:
    return [(one.state, one.attempt, one.status) for one in outbox.of_task(engine, task.id)]


def words(engine) -> str:
    """Return why the last try failed, as status tells it."""
    told = [each.text for each in summary(engine).complaints]
    return " ".join([*told, *(each.reason for each in backlogs(engine))])


def test_everything_owed_goes_in_one_request_as_it_is(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=3)

    with web_server() as server:
        tried = deliver(engine, server)

    assert tried == 3
    assert server.posts == [("2.25.1", "2.25.2", "2.25.3")]
    assert states(engine, task) == [(DELIVERED, 0, 0x0000)] * 3
    for one in outbox.of_task(engine, task.id):
        assert dcmread(one.path).to_json() == _content(server.objects[one.sop_instance_uid])


def _content(encoded: bytes) -> str:
    return dcmread(BytesIO(encoded)).to_json()


def test_large_object_is_sent_in_chunks(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud")
    (owed,) = outbox.of_task(engine, task.id)
    dataset = dcmread(owed.path)
    dataset.add_new(0x00091010, "OB", bytes(range(256)) * 12_000)
    dataset.save_as(owed.path)

    with web_server() as server:
        deliver(engine, server)

    assert states(engine, task) == [(DELIVERED, 0, 0x0000)]
    assert server.hosts == [f"127.0.0.1:{server.port}"]
    assert dcmread(owed.path).to_json() == _content(server.objects["2.25.1"])


@pytest.mark.parametrize(
    ("reason", "state", "attempt", "told"),
    [
        (0xA700, WAITING, 1, "no resources there now (0xA700)"),
        (0xA7FF, WAITING, 1, "no resources there now (0xA7FF)"),
        (0x0110, WAITING, 1, "no resources there now (0x0110)"),
        (0xA900, REFUSED, 0, "refused for good (0xA900)"),
        (0xC000, REFUSED, 0, "refused for good (0xC000)"),
        (0x0122, REFUSED, 0, "this SOP class is not supported there (0x0122)"),
        (0xC122, REFUSED, 0, "this transfer syntax is not supported there (0xC122)"),
        (0x0111, DELIVERED, 0, ""),
    ],
)
def test_failure_reason_decides_what_becomes_of_one_object_of_several(
    engine, tmp_path, reason, state, attempt, told
):
    task = owe(engine, tmp_path, destination="cloud", count=2)

    def partly(uids):
        return module(202, kept=stored("2.25.1"), refused=failed("2.25.2", reason=reason))

    with web_server(partly) as server:
        deliver(engine, server)

    assert states(engine, task) == [(DELIVERED, 0, 0x0000), (state, attempt, reason)]
    assert told in words(engine)


def test_conflict_is_read_object_by_object(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=2)
    refused = [*failed("2.25.1", reason=0xA700), *failed("2.25.2", reason=0x0122)]

    with web_server(lambda uids: module(409, refused=refused)) as server:
        deliver(engine, server)

    assert server.posts == [("2.25.1", "2.25.2")]
    assert states(engine, task) == [(WAITING, 1, 0xA700), (REFUSED, 0, 0x0122)]


def test_warning_is_delivered_and_told_in_the_log(engine, tmp_path, caplog):
    task = owe(engine, tmp_path, destination="cloud")

    with (
        caplog.at_level(logging.WARNING),
        web_server(lambda uids: module(200, kept=stored(*uids, warning=0xB000))) as server,
    ):
        deliver(engine, server)

    assert states(engine, task) == [(DELIVERED, 0, 0xB000)]
    assert [record.status for record in caplog.records] == ["0xB000"]


@pytest.mark.parametrize(
    "media_type", ["application/dicom+json; charset=utf-8", "application/json"]
)
def test_answer_is_read_whatever_its_media_type_adds(engine, tmp_path, media_type):
    task = owe(engine, tmp_path, destination="cloud")
    refused = failed("2.25.1", reason=0xC000)

    with web_server(lambda uids: module(202, refused=refused, media_type=media_type)) as server:
        deliver(engine, server)

    assert states(engine, task) == [(REFUSED, 0, 0xC000)]


@pytest.mark.parametrize(
    "answer",
    [
        WebAnswer(body=b"<html>Please log in</html>", headers={"Content-Type": "text/html"}),
        WebAnswer(body=b"{", headers={"Content-Type": "application/dicom+json"}),
        WebAnswer(body=b"[1]", headers={"Content-Type": "application/dicom+json"}),
        WebAnswer(),
        WebAnswer(status=409, body=b"no", headers={"Content-Type": "text/plain"}),
        module(200, kept=stored("2.25.99")),
    ],
    ids=["page", "cut", "list", "empty", "bare conflict", "other object"],
)
def test_success_that_names_no_object_of_ours_is_none(engine, tmp_path, answer):
    task = owe(engine, tmp_path, destination="cloud", count=2)

    with web_server(lambda uids: answer) as server:
        deliver(engine, server)

    assert states(engine, task) == [(WAITING, 1, None)] * 2
    assert server.posts == [("2.25.1", "2.25.2"), ("2.25.1",), ("2.25.2",)]
    assert "cloud" in words(engine)


@pytest.mark.parametrize(
    ("status", "state", "told"),
    [
        (503, WAITING, "cloud has no resources now or fails (HTTP 503)"),
        (429, WAITING, "HTTP 429"),
        (507, WAITING, "HTTP 507"),
        (401, PARKED, "cloud asks for a token (HTTP 401)"),
        (403, PARKED, "HTTP 403"),
        (404, PARKED, "has no such service at http://127.0.0.1"),
        (302, PARKED, "sends us elsewhere"),
        (307, PARKED, "sends us elsewhere"),
        (418, PARKED, "ask who runs it"),
    ],
)
def test_status_for_all_concerns_all_and_is_asked_once(engine, tmp_path, status, state, told):
    task = owe(engine, tmp_path, destination="cloud", count=2)
    headers = {"Location": "/login"}

    with web_server(lambda uids: WebAnswer(status=status, headers=headers)) as server:
        deliver(engine, server)

    assert [one for one, _, _ in states(engine, task)] == [state] * 2
    assert len(server.posts) == 1
    assert told in words(engine)


def test_object_that_spoils_the_request_is_refused_alone(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=3)

    def not_the_second(uids):
        return WebAnswer(status=415) if "2.25.2" in uids else module(200, kept=stored(*uids))

    with web_server(not_the_second) as server:
        deliver(engine, server)

    assert [one for one, _, _ in states(engine, task)] == [DELIVERED, REFUSED, DELIVERED]
    assert "of a kind that it does not take (HTTP 415)" in words(engine)


def test_service_that_never_answers_is_left_in_time_and_tried_again(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=2)

    impatient = replace(QUICK, timeouts=replace(QUICK.timeouts, response=0.3))

    with web_server(lambda uids: None) as server:
        Destination(engine, peer_at(server.url), impatient).deliver_due()

    assert states(engine, task) == [(WAITING, 1, None)] * 2
    assert "gave no answer in time" in words(engine)


def test_service_that_is_not_there_is_tried_again_until_it_waits_for_a_person(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/dicom-web"
    destination = Destination(engine, peer_at(url), QUICK)

    seen = []
    for _ in range(QUICK.attempts):
        destination.deliver_due()
        seen.append(states(engine, task)[0][0])

    assert seen == [WAITING] * 3 + [PARKED]
    assert "connection refused" in words(engine)


def test_token_is_shown_to_the_service_and_to_nobody_else(engine, tmp_path, caplog):
    owe(engine, tmp_path, destination="cloud")

    with caplog.at_level(logging.DEBUG), web_server(lambda uids: WebAnswer(status=401)) as server:
        deliver(engine, server, token=SECRET)

    assert server.authorizations == [f"Bearer {SECRET}"]
    assert "cloud refuses the token (HTTP 401)" in words(engine)
    logged = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert not [line for line in logged if SECRET in line]
    assert SECRET not in repr(peer_at(server.url, token=SECRET))


def test_token_that_names_its_scheme_stands_as_it_is(engine, tmp_path):
    owe(engine, tmp_path, destination="cloud")

    with web_server() as server:
        deliver(engine, server, token="Basic Y2FuYXJ5")

    assert server.authorizations == ["Basic Y2FuYXJ5"]


def test_another_users_netrc_is_not_read(engine, tmp_path, monkeypatch):
    owe(engine, tmp_path, destination="cloud")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))

    with web_server() as server:
        deliver(engine, server, token=SECRET)

    assert server.authorizations == [f"Bearer {SECRET}"]


def test_object_damaged_in_the_store_does_not_keep_back_the_others(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=2)
    damaged, _ = outbox.of_task(engine, task.id)
    damaged.path.write_bytes(b"no longer DICOM")

    with web_server() as server:
        deliver(engine, server)

    assert [one for one, _, _ in states(engine, task)] == [PARKED, DELIVERED]


def test_object_that_is_withdrawn_before_its_turn_is_not_sent(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud", count=2)
    first, _ = outbox.of_task(engine, task.id)

    def settle_first(uids):
        if len(uids) == 2:
            outbox.park(engine, first, status=None, reason="by a person", now=_now())
            return WebAnswer(status=415)
        return module(200, kept=stored(*uids))

    with web_server(settle_first) as server:
        deliver(engine, server)

    assert server.posts == [("2.25.1", "2.25.2"), ("2.25.2",)]
    assert [one for one, _, _ in states(engine, task)] == [PARKED, DELIVERED]


def test_certificate_of_nobody_is_not_trusted_until_its_authority_is_named(engine, tmp_path):
    task = owe(engine, tmp_path, destination="cloud")
    key, certificate = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with web_server(tls=context) as server:
        deliver(engine, server)
        parked = states(engine, task)[0][0]
        told = words(engine)
        outbox.release(engine, outbox.of_task(engine, task.id)[0].id, _now())
        deliver(engine, server, ca=certificate)

    assert parked is PARKED
    assert "shows a certificate that is not trusted" in told
    assert states(engine, task)[0][0] is DELIVERED


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = [
        str(require("openssl", "apt-get install openssl")),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", str(key)]
    command += ["-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def _now():
    return datetime.now(UTC)


def test_echo_says_what_a_service_answers(tmp_path):
    with web_server(lambda uids: WebAnswer(body=b"[]", headers=_JSON)) as server:
        well = echo_over_web(peer_at(server.url), timeouts=QUICK.timeouts)
    with web_server(lambda uids: WebAnswer(status=401)) as server:
        closed = echo_over_web(peer_at(server.url), timeouts=QUICK.timeouts)
    with web_server(lambda uids: WebAnswer(body=b"<html>", headers=_HTML)) as server:
        other = echo_over_web(peer_at(server.url), timeouts=QUICK.timeouts)

    assert (well.ok, closed.ok, other.ok) == (True, False, False)
    assert "asks for a token" in closed.message
    assert "not as DICOMweb does" in other.message
