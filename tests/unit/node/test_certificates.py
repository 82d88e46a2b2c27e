"""How long certificates of ours are valid, and what the check says of them."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from node.certificates import expiry
from node.commands.check import Mark, certificate, listening, observe
from node.config_folder import load_config
from tests.certificates import authority

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("hospital"))


@pytest.mark.parametrize("days", [-1, 2, 400, 36500])
def test_expiry_is_what_openssl_says_of_every_kind_of_date(hospital, days):
    made = hospital.sign(f"valid{days}", days=days)

    told = subprocess.run(
        ["/usr/bin/openssl", "x509", "-in", made.cert, "-noout", "-enddate"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()

    assert f"{expiry(made.cert):notAfter=%b %e %H:%M:%S %Y GMT}" == told


def test_file_without_a_certificate_is_refused(hospital):
    made = hospital.sign("plain")

    with pytest.raises(ValueError, match="holds no certificate"):
        expiry(made.key)


def test_certificate_that_is_cut_off_is_refused(hospital, tmp_path):
    lines = hospital.sign("cut").cert.read_text().splitlines()
    short = tmp_path / "short.pem"
    short.write_text("\n".join([lines[0], lines[1][:4], lines[-1]]))

    with pytest.raises(ValueError, match="cannot be read"):
        expiry(short)


@pytest.mark.parametrize(
    ("before", "mark", "words"),
    [
        (timedelta(days=60), Mark.OK, "valid until "),
        (timedelta(days=12, hours=1), Mark.WARNING, "in 12 days: renew it"),
        (timedelta(days=-1), Mark.PROBLEM, "has expired on "),
    ],
)
def test_check_warns_before_a_certificate_expires(hospital, before, mark, words):
    made = hospital.sign("node")

    found = certificate(made.cert, expiry(made.cert) - before)

    assert (found.thing, found.mark) == ("certificate node.pem", mark)
    assert words in found.words


def test_check_says_that_a_file_is_gone(tmp_path):
    found = certificate(tmp_path / "gone.pem", datetime.now(UTC))

    assert found.mark is Mark.WARNING
    assert "cannot be read" in found.words


def test_check_tells_of_certificates_of_the_secure_port_and_of_open_passcodes(hospital, tmp_path):
    ours = hospital.sign("ours", days=12)
    (tmp_path / "passcode").write_text("canary-4711")
    (tmp_path / "node.toml").write_text(
        f'[node]\ndata = "data"\n[node.tls]\ncert = "{ours.cert}"\nkey = "{ours.key}"\n'
        f'ca = "{hospital.cert}"\n'
        '[peers.pacs]\nae_title = "A"\nhost = "127.0.0.1"\nport = 1\n'
        'user = "ward"\npasscode = "${file:passcode}"\n'
    )
    config = load_config(tmp_path)

    found = {each.thing: each for each in observe(config)}

    assert "port 2762" in found
    assert found["certificate ours.pem"].mark is Mark.WARNING
    assert found["peer pacs"].mark is Mark.WARNING
    assert "its passcode goes there unencrypted" in found["peer pacs"].words
    assert "port 11112, and with TLS on port 2762" in listening(config)[0]
    assert "canary-4711" not in str(found)
