"""Peers that are DICOMweb services: read into values, or refused with their place."""

import pytest

from node.config import Peer, PriorSettings, Service, UserIdentity, config_hash
from node.config_folder import config_of, read_folder
from node.problems import InvalidConfigError
from node.receivers import receive_settings
from node.tls import PeerTls

SECRET = "canary-token-4711"


def load(folder, text, environment=None):
    (folder / "node.toml").write_text(text)
    return config_of(read_folder(folder, environment or {}))


def test_service_needs_only_its_url(tmp_path):
    config = load(tmp_path, '[peers.cloud]\nurl = "https://pacs.example/dicom-web"')

    assert config.peers["cloud"] == Peer(name="cloud", url="https://pacs.example/dicom-web")


def test_token_and_authority_come_from_files(tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "ca.pem").write_text("certificates")
    text = '[peers.cloud]\nurl = "https://h/w"\ntoken = "${file:token}"\nca = "ca.pem"'

    peer = load(tmp_path, text).peers["cloud"]

    assert peer.token == SECRET
    assert peer.ca == tmp_path / "ca.pem"
    assert SECRET not in repr(peer)


def test_service_may_also_send_to_us(tmp_path):
    text = '[peers.a]\nurl = "https://h/w"\nae_title = "A"\nhost = "10.0.0.1"'

    peer = load(tmp_path, text).peers["a"]

    assert (peer.ae_title, peer.host, peer.port) == ("A", "10.0.0.1", 104)


def test_user_and_passcode_are_what_a_peer_must_show(tmp_path):
    (tmp_path / "passcode").write_text(f"{SECRET}\n")
    text = '[peers.a]\nae_title = "A"\nhost = "h"\nuser = "ward"\npasscode = "${file:passcode}"'

    config = load(tmp_path, text)

    assert config.peers["a"].identity == UserIdentity(user="ward", passcode=SECRET)
    (allowed,) = receive_settings(config).peers
    assert allowed.identity == config.peers["a"].identity
    assert SECRET not in repr(config)
    assert SECRET not in repr(receive_settings(config))


def test_peer_without_files_is_checked_against_the_authorities_of_the_system(tmp_path):
    text = '[peers.a]\nae_title = "A"\nhost = "h.example"\ntls = { host = "pacs.example" }'

    assert load(tmp_path, text).peers["a"].tls == PeerTls(host="pacs.example")


def test_peer_that_may_commit_is_asked_to(tmp_path):
    text = '[peers.a]\nae_title = "A"\nhost = "h"\nallow = ["store", "commit"]\ncommitment = true'

    peer = load(tmp_path, text).peers["a"]

    assert peer.commitment
    assert peer.allow == (Service.STORE, Service.COMMIT)


def test_route_names_the_archive_that_is_asked_for_priors(tmp_path):
    node = '[peers.pacs]\nae_title = "A"\nhost = "h"'
    route = '[[route]]\nname = "r"\nmodel = "phantom"\npriors = { from = "pacs", seconds = 5.0 }'
    (tmp_path / "routes.toml").write_text(route)

    config = load(tmp_path, node)

    assert config.routes[0].priors == PriorSettings(archive="pacs", seconds=5.0)


def test_priors_change_the_identifiers_of_results_and_their_place_does_not(tmp_path):
    node = '[peers.pacs]\nae_title = "A"\nhost = "h"\n[peers.b]\nae_title = "B"\nhost = "h"'
    route = '[[route]]\nname = "r"\nmodel = "phantom"\n'
    hashes = []
    for priors in ("", 'priors = { from = "pacs" }', 'priors = { from = "b", seconds = 9 }'):
        (tmp_path / "routes.toml").write_text(route + priors)
        config = load(tmp_path, node)
        hashes.append(config_hash(config, config.routes[0]))

    assert hashes[0] != hashes[1] == hashes[2]


def test_archive_that_is_no_peer_is_a_mistake(tmp_path):
    route = '[[route]]\nname = "r"\nmodel = "phantom"\npriors = { from = "pacss" }'
    (tmp_path / "routes.toml").write_text(route)

    with pytest.raises(InvalidConfigError, match="there is no peer 'pacss'; did you mean 'pacs'"):
        load(tmp_path, '[peers.pacs]\nae_title = "A"\nhost = "h"')


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ('url = "ftp://h"', "peers.a.url: begins neither with https://HOST nor with http://HOST"),
        ('url = "https://u:pw@h/w"', "peers.a.url: holds a name or a password"),
        ('url = "https://h/w?x=1"', "peers.a.url: holds '?' or '#'"),
        ('url = "https://h/w"\nca = "none.pem"', "peers.a.ca: there is no file 'none.pem'"),
        ('url = "https://h/w"\ntoken = "open"', "peers.a.token: is written in the open"),
        ('url = "http://h/w"\ntoken = "${env:T}"', "peers.a.token: would go over http"),
        ('ae_title = "A"\nhost = "h"\ntoken = "${env:T}"', "token: is only for a peer with url"),
        (
            'url = "https://h/w"\nallow = ["commit"]\ncommitment = true',
            "peers.a.commitment: cannot be asked of a peer with url",
        ),
        ('url = "https://h/w"\nae_title = "A"', "peers.a.host: is missing"),
        ('host = "h"', "peers.a.ae_title: is empty"),
        ("port = 104", "peers.a.host: is missing"),
        ('ae_title = "A"\nhost = "h"\nca = "x.pem"', "peers.a.ca: is only for a peer with url"),
        ('url = "https://h/w"\ntls = {}', "peers.a.tls: is not for a peer with url"),
        ('url = "https://h/w"\nuser = "u"', "peers.a.user: is only for a peer with ae_title"),
        (
            f'ae_title = "A"\nhost = "h"\nuser = "u"\npasscode = "{SECRET}"',
            "peers.a.passcode: is written in the open; expected ${file:path} or ${env:NAME}",
        ),
        (
            'ae_title = "A"\nhost = "h"\npasscode = "${env:T}"',
            "peers.a.passcode: stands without user",
        ),
        (
            f'ae_title = "A"\nhost = "h"\nuser = "u"\npasscode = "{SECRET * 20}"',
            "peers.a.passcode: is too long",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_no_secret(tmp_path, peer, told):
    with pytest.raises(InvalidConfigError) as caught:
        load(tmp_path, f"[peers.a]\n{peer}", {"T": SECRET})

    assert told in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "pw" not in str(caught.value)
