"""Associations of ours over TLS: with Orthanc and DCMTK, and what is told where it fails."""

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom.ae import ApplicationEntity

from node.commands.reach import reach
from node.config import Peer
from node.config_folder import load_config
from node.deliver import DeliverySettings, Destination
from node.doorman import AllowedPeer
from node.ledger import confirmations, outbox
from node.peer import Timeouts, UnreachableError, echo, send_files
from node.problems import InvalidConfigError
from node.query import fetch_series
from node.task import ConfirmationKind, ConfirmationState, DeliveryState
from node.tls import PeerTls, TlsSettings
from tests.build_ledger import new_ledger, owe
from tests.build_wire import receive_settings, receiver_ports
from tests.certificates import Authority, Certificate, authority
from tests.orthanc import free_port, orthanc
from tests.peers import require
from tests.unit.node.test_peer import closed_port, data_set_digest, scp, write_object
from tests.wait import until

pytestmark = pytest.mark.peers

SETTINGS = DeliverySettings(calling_ae="PELLUCID", base_seconds=0.0)
QUICK = Timeouts(connect=3.0, association=10.0, response=10.0, network=10.0)


@dataclass(frozen=True, kw_only=True)
class Papers:
    """Everybody's certificates."""

    hospital: Authority
    pacs: Certificate
    node: Certificate
    elsewhere: Certificate
    expired: Certificate
    #: Signed by an authority that nobody here knows.
    stranger: Certificate


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    hospital = authority(tmp_path_factory.mktemp("hospital"))
    return Papers(
        hospital=hospital,
        pacs=hospital.sign("pacs"),
        node=hospital.sign("node"),
        elsewhere=hospital.sign("elsewhere", names="DNS:other.example"),
        expired=hospital.sign("expired", days=-1),
        stranger=authority(tmp_path_factory.mktemp("street")).sign("stranger"),
    )


def tls_of(papers: Papers, **changes) -> PeerTls:
    """Return how we connect: the hospital's authority is trusted, and our certificate shown."""
    ours = PeerTls(
        host="127.0.0.1", ca=papers.hospital.cert, cert=papers.node.cert, key=papers.node.key
    )
    return replace(ours, **changes)


def peer_at(port: int, tls: PeerTls | None, ae_title: str = "MAINPACS") -> Peer:
    return Peer(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, tls=tls)


@contextlib.contextmanager
def storescp(folder: Path, papers: Papers) -> Iterator[int]:
    """Run DCMTK's Storage SCP, which asks whoever connects for a certificate; give its port."""
    program = require("/usr/bin/storescp", "apt install dcmtk")
    folder.mkdir()
    port = free_port()
    own = ("+tls", papers.pacs.key, papers.pacs.cert, "+cf", papers.hospital.cert)
    log = folder.parent / "storescp.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *own, "+uf", "-od", folder, str(port)], stdout=output, stderr=output
        )
    try:
        until(lambda: listens(port), seconds=20, why=log.read_text)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def secure_scp(
    certificate: Certificate, ca: Path | None = None, *, ciphers: str = "DEFAULT", **changes
) -> Iterator[int]:
    """Run a Verification SCP with TLS; with ``ca`` it asks for certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    if ca is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(ciphers)
    for name, value in changes.items():
        setattr(context, name, value)
    entity = ApplicationEntity("MAINPACS")
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_storage_scp_that_asks_for_a_certificate_gets_files_byte_for_byte(tmp_path, papers):
    paths = [write_object(tmp_path / f"{index}.dcm", f"1.2.{index}") for index in (1, 2)]

    with storescp(tmp_path / "there", papers) as port:
        sent = send_files(
            peer_at(port, tls_of(papers)), paths, calling_ae="PELLUCID", timeouts=QUICK
        )

    assert [each.status for each in sent] == [0x0000, 0x0000]
    kept = {data_set_digest(path) for path in (tmp_path / "there").iterdir()}
    assert kept == {data_set_digest(path) for path in paths}


def test_storage_scp_lets_nobody_in_who_shows_no_certificate(tmp_path, papers):
    path = write_object(tmp_path / "1.dcm", "1.2.1")
    tls = tls_of(papers, cert=None, key=None)

    with (
        storescp(tmp_path / "there", papers) as port,
        pytest.raises(UnreachableError, match=r"certificate of ours.*tls\.cert"),
    ):
        send_files(peer_at(port, tls), [path], calling_ae="PELLUCID", timeouts=QUICK)

    assert list((tmp_path / "there").iterdir()) == []


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def test_orthanc_is_sent_to_asked_and_read_from_over_tls_and_commits_so(engine, tmp_path, papers):
    task = owe(engine, tmp_path, destination="pacs", count=2)
    allowed = AllowedPeer(name="pacs", ae_title="MAINPACS", host="127.0.0.1", commit=True)
    receiving = TlsSettings(
        port=0,
        cert=papers.node.cert,
        key=papers.node.key,
        ca=papers.hospital.cert,
        require_client_cert=True,
    )
    settings = receive_settings(tmp_path, peers=(allowed,), accept_unknown=False, tls=receiving)
    with (
        receiver_ports(settings) as (_, secure_port),
        orthanc(tmp_path / "orthanc", more=over_tls(papers, secure_port)) as pacs,
    ):
        peer = replace(peer_at(pacs.dicom_port, tls_of(papers)), commitment=True, readback=True)
        destination = Destination(engine, peer, SETTINGS)
        heard = echo(peer, calling_ae="PELLUCID", timeouts=QUICK)
        destination.deliver_due()
        destination.confirm_due()
        until(lambda: confirmed(engine, task) == 4, seconds=30, why=pacs.log.read_text)
        one = dcmread(outbox.of_task(engine, task.id)[0].path)
        series = (str(one.StudyInstanceUID), str(one.SeriesInstanceUID))
        fetched = fetch_series(
            peer, series, [str(one.SOPClassUID)], calling_ae="PELLUCID", timeouts=QUICK
        )

    assert heard.ok, heard.message
    assert {each.state for each in outbox.of_task(engine, task.id)} == {DeliveryState.DELIVERED}
    assert str(one.SOPInstanceUID) in {str(each.SOPInstanceUID) for each in fetched}


def over_tls(papers: Papers, node_port: int) -> dict[str, object]:
    """Return the settings of an Orthanc that takes, and opens, secure connections alone."""
    node = {"AET": "PELLUCID", "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": True}
    return {
        "DicomTlsEnabled": True,
        "DicomTlsRemoteCertificateRequired": True,
        "DicomTlsCertificate": str(papers.pacs.cert),
        "DicomTlsPrivateKey": str(papers.pacs.key),
        "DicomTlsTrustedCertificates": str(papers.hospital.cert),
        "DicomModalities": {"node": node},
    }


def confirmed(engine, task) -> int:
    known = confirmations.of_task(engine, task.id).values()
    kinds = (ConfirmationKind.COMMITMENT, ConfirmationKind.READBACK)
    return [one.get(kind) for one in known for kind in kinds].count(ConfirmationState.CONFIRMED)


def test_peer_whose_authority_is_entered_late_gets_what_it_is_owed(
    engine, tmp_path, papers, caplog
):
    task = owe(engine, tmp_path, destination="pacs")
    ca = tmp_path / "ca.pem"
    shutil.copy(papers.stranger.cert, ca)

    with storescp(tmp_path / "there", papers) as port:
        destination = Destination(engine, peer_at(port, tls_of(papers, ca=ca)), SETTINGS)
        destination.deliver_due()
        (waiting,) = outbox.of_task(engine, task.id)
        shutil.copy(papers.hospital.cert, ca)
        destination.deliver_due()

    assert waiting.state is DeliveryState.WAITING
    (told,) = [each for each in caplog.records if each.msg == "not delivered, will retry"]
    assert "none that stands in ca.pem has signed it" in told.reason
    (done,) = outbox.of_task(engine, task.id)
    assert done.state is DeliveryState.DELIVERED


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("expired", "shows a certificate that has expired"),
        ("elsewhere", "shows a certificate that is not for 127.0.0.1: name what it is for"),
        ("stranger", "of an authority that is not trusted: none that stands in ca.pem"),
    ],
)
def test_certificate_that_is_not_good_is_told_with_what_to_do(papers, shown, told):
    with secure_scp(getattr(papers, shown)) as port:
        answer = reach(peer_at(port, tls_of(papers)), calling_ae="PELLUCID")

    assert not answer.ok
    assert answer.message.startswith(f"pacs (MAINPACS at 127.0.0.1:{port}) shows a certificate")
    assert told in answer.message


@pytest.mark.parametrize("tls", [{"check_host": False}, {"host": "other.example"}])
def test_certificate_for_another_name_is_accepted_where_that_is_told(papers, tls):
    with secure_scp(papers.elsewhere) as port:
        answer = reach(peer_at(port, tls_of(papers, **tls)), calling_ae="PELLUCID")

    assert answer.ok, answer.message


def test_authority_that_only_the_system_could_know_is_not_trusted(papers):
    with secure_scp(papers.pacs) as port:
        answer = reach(peer_at(port, tls_of(papers, ca=None)), calling_ae="PELLUCID")

    assert "none that the system knows has signed it (tls.ca)" in answer.message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ("expired", "certificate has expired: renew tls.cert"),
        ("stranger", "does not know who signed our certificate"),
        (None, "certificate of ours"),
    ],
)
def test_certificate_of_ours_that_is_not_accepted_there_is_told(papers, version, ours, told):
    mine = getattr(papers, ours) if ours else None
    tls = tls_of(papers, cert=mine and mine.cert, key=mine and mine.key)

    with secure_scp(papers.pacs, papers.hospital.cert, maximum_version=version) as port:
        answer = reach(peer_at(port, tls), calling_ae="PELLUCID")

    assert not answer.ok
    assert told in answer.message


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_peer_of_old_versions_of_tls_alone_is_told(papers):
    old = ssl.TLSVersion.TLSv1_1
    changes = {"minimum_version": old, "maximum_version": old}

    with secure_scp(papers.pacs, ciphers="DEFAULT:@SECLEVEL=0", **changes) as port:
        answer = reach(peer_at(port, tls_of(papers)), calling_ae="PELLUCID")

    assert "speaks no TLS of version 1.2 or later" in answer.message


def test_peer_that_speaks_no_tls_is_told(papers):
    with scp(syntaxes=["1.2.840.10008.1.2"]) as port:
        answer = echo(peer_at(port, tls_of(papers)), calling_ae="PELLUCID", timeouts=QUICK)

    assert not answer.ok
    assert "TLS at this port" in answer.message


def test_peer_that_speaks_tls_alone_is_asked_about(papers):
    with secure_scp(papers.pacs) as port:
        answer = reach(peer_at(port, None), calling_ae="PELLUCID")

    assert not answer.ok
    assert "does it ask for TLS at this port (tls)?" in answer.message


def test_peer_that_is_silent_in_the_handshake_is_given_up(papers):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = peer_at(silent.getsockname()[1], tls_of(papers))
        answer = echo(peer, calling_ae="PELLUCID", timeouts=replace(QUICK, connect=0.5))

    assert "says nothing in the handshake" in answer.message


def test_closed_port_is_told_as_without_tls(papers):
    answer = reach(peer_at(closed_port(), tls_of(papers)), calling_ae="PELLUCID")

    assert "connection refused" in answer.message


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("cert = '{node.cert}'\nkey = '{stranger.key}'", "is not the key of"),
        ("ca = '{node.key}'", "expected certificates of authorities (PEM)"),
        ("cert = '{node.key}'\nkey = '{node.key}'", "certificate and key do not load"),
        ("cert = '{node.cert}'", "peers.pacs.tls.key: cert and key stand together"),
        ("ca = 'none.pem'", "peers.pacs.tls.ca: there is no file 'none.pem'"),
        ("check_host = false", "peers.pacs.tls: check_host = false needs ca"),
    ],
)
def test_file_that_does_not_load_is_a_mistake_of_the_configuration(tmp_path, papers, table, told):
    filled = table.format(node=papers.node, stranger=papers.stranger)
    text = f'[peers.pacs]\nae_title = "A"\nhost = "h"\n[peers.pacs.tls]\n{filled}\n'
    (tmp_path / "node.toml").write_text(text)

    with pytest.raises(InvalidConfigError) as caught:
        load_config(tmp_path)

    assert told in str(caught.value)
    assert str(caught.value).startswith("node.toml: peers.pacs.tls")


def test_table_of_relative_files_says_how_to_connect(tmp_path, papers):
    for name, path in {
        "ca": papers.hospital.cert,
        "c": papers.node.cert,
        "k": papers.node.key,
    }.items():
        shutil.copy(path, tmp_path / f"{name}.pem")
    files = 'ca = "ca.pem"\ncert = "c.pem"\nkey = "k.pem"'
    text = f'[peers.pacs]\nae_title = "A"\nhost = "h.example"\n[peers.pacs.tls]\n{files}\n'
    (tmp_path / "node.toml").write_text(text)

    tls = load_config(tmp_path).peers["pacs"].tls

    assert tls == PeerTls(
        host="h.example",
        ca=tmp_path / "ca.pem",
        cert=tmp_path / "c.pem",
        key=tmp_path / "k.pem",
    )
