"""The receiver with TLS: who is let in, and that a handshake keeps nobody else waiting."""

import os
import socket
import ssl
import subprocess

import pytest

from node.errors import ConfigError
from node.tls import TlsSettings, server_context
from tests.build_wire import image, receive_settings, receiver_ports, sender, store
from tests.certificates import authority
from tests.peers import require

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Give a folder of certificates: an authority's, and two that it has signed."""
    hospital = authority(tmp_path_factory.mktemp("papers"))
    for name in ("node", "modality"):
        hospital.sign(name)
    return hospital.folder


@pytest.fixture
def ports(tmp_path, papers):
    """Give the plain and the secure port of a receiver that asks for certificates."""
    settings = receive_settings(tmp_path, tls=tls_settings(papers))
    with receiver_ports(settings) as ports:
        yield ports


def tls_settings(papers):
    return TlsSettings(
        port=0,
        cert=papers / "node.pem",
        key=papers / "node.key",
        ca=papers / "ca.pem",
        require_client_cert=True,
    )


def storescu(port, file, *options):
    program = require("/usr/bin/storescu", "apt install dcmtk")
    return subprocess.run(
        [program, *options, "-aec", "PELLUCID", "127.0.0.1", str(port), file],
        check=False,
        capture_output=True,
        env={**os.environ, "TCP_NODELAY": "1"},
    ).returncode


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "image.dcm"
    made = image()
    made.ensure_file_meta()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.save_as(path, enforce_file_format=True)
    return path


def test_a_modality_with_a_certificate_stores(ports, papers, file):
    own = ("+tls", papers / "modality.key", papers / "modality.pem", "+cf", papers / "ca.pem")

    assert storescu(ports[1], file, *own) == 0


def test_who_has_no_certificate_is_shut_out(ports, papers, file):
    assert storescu(ports[1], file, "+tla", "+cf", papers / "ca.pem") != 0


def test_an_old_version_of_tls_is_refused(ports, papers):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(papers / "ca.pem")
    context.load_cert_chain(papers / "modality.pem", papers / "modality.key")
    # Without this the client itself would refuse.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    with (
        socket.create_connection(("127.0.0.1", ports[1]), timeout=20) as connection,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(connection)


def test_silent_clients_on_the_secure_port_keep_nobody_waiting(ports, papers, file):
    own = ("+tls", papers / "modality.key", papers / "modality.pem", "+cf", papers / "ca.pem")
    silent = [socket.create_connection(("127.0.0.1", ports[1])) for _ in range(8)]

    with sender(ports[0]) as association:
        assert store(association, image("1.2.3.4.2")) == 0x0000
    assert storescu(ports[1], file, *own) == 0

    for connection in silent:
        connection.close()


def test_a_key_of_another_certificate_is_one_clear_sentence(papers):
    settings = TlsSettings(
        port=0,
        cert=papers / "node.pem",
        key=papers / "modality.key",
        ca=None,
        require_client_cert=False,
    )

    with pytest.raises(ConfigError, match=r"certificate and key do not load"):
        server_context(settings)
