"""A user and a passcode: peers that must show them do, or are shut out; ours are shown."""

import logging
import subprocess

import pytest
from pynetdicom import evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import build_context

from node.config import Peer, UserIdentity
from node.doorman import AllowedPeer
from node.peer import AssociationRejectedError, Timeouts, associate, echo
from node.user_identity import is_shown, shown
from tests.build_wire import EXPLICIT, VERIFICATION, image, receive_settings, receiver
from tests.peers import require
from tests.unit.node.test_peer import scp

PASSCODE = "canary-passcode-4711"
AGREED = UserIdentity(user="ward", passcode=PASSCODE)
QUICK = Timeouts(connect=5.0, association=10.0, response=10.0, network=10.0)


def kerberos_ticket() -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type, item.primary_field = 3, b"ward"
    return item


@pytest.mark.parametrize(
    ("item", "known"),
    [
        (shown(AGREED), True),
        (shown(UserIdentity(user="ward", passcode="other")), False),
        (shown(UserIdentity(user="other", passcode=PASSCODE)), False),
        (shown(UserIdentity(user="ward")), False),
        (kerberos_ticket(), False),
        (None, False),
    ],
    ids=["as agreed", "other passcode", "other user", "no passcode", "a ticket", "nothing"],
)
def test_only_the_agreed_user_with_its_passcode_is_known(item, known):
    assert is_shown(AGREED, item) == known


def test_user_without_agreed_passcode_is_known_by_its_name_alone():
    agreed = UserIdentity(user="wärd")

    assert is_shown(agreed, shown(agreed))
    assert is_shown(agreed, shown(UserIdentity(user="wärd", passcode="any")))
    assert not is_shown(agreed, shown(UserIdentity(user="ward")))


def node_that_knows_ct1(tmp_path, identity):
    peer = AllowedPeer(name="ct1", ae_title="CT1", host="127.0.0.1", identity=identity)
    return receiver(receive_settings(tmp_path, accept_unknown=False, peers=(peer,)))


def as_peer(port, identity=None):
    return Peer(name="node", ae_title="PELLUCID", host="127.0.0.1", port=port, identity=identity)


def test_peer_that_shows_what_was_agreed_is_let_in(tmp_path):
    with node_that_knows_ct1(tmp_path, AGREED) as port:
        answer = echo(as_peer(port, AGREED), calling_ae="CT1", timeouts=QUICK)

    assert answer.ok, answer.message


@pytest.mark.parametrize(
    "identity", [None, UserIdentity(user="ward"), UserIdentity(user="ward", passcode="wrong-4712")]
)
def test_peer_that_does_not_is_rejected_for_good_with_an_alarm(tmp_path, caplog, identity):
    with (
        node_that_knows_ct1(tmp_path, AGREED) as port,
        pytest.raises(AssociationRejectedError),
        associate(
            as_peer(port, identity),
            [build_context(VERIFICATION)],
            calling_ae="CT1",
            timeouts=QUICK,
        ),
    ):
        pass

    (alarm,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "user or passcode of this peer are missing or wrong" in alarm.getMessage()
    assert (alarm.event, alarm.calling_ae) == ("association_rejected", "CT1")
    told = "".join(str(vars(each)) for each in caplog.records)
    assert PASSCODE not in told
    assert "wrong-4712" not in told


def test_peer_without_an_agreed_user_may_show_one(tmp_path):
    with node_that_knows_ct1(tmp_path, None) as port:
        answer = echo(as_peer(port, AGREED), calling_ae="CT1", timeouts=QUICK)

    assert answer.ok, answer.message


def test_peer_hears_who_we_are_and_may_refuse_us():
    heard = []

    def refuse(event: evt.Event) -> tuple[bool, None]:
        heard.append((event.user_id_type, event.primary_field, event.secondary_field))
        return False, None

    with scp(syntaxes=["1.2.840.10008.1.2"], handlers=[(evt.EVT_USER_ID, refuse)]) as port:
        peer = Peer(name="pacs", ae_title="X", host="127.0.0.1", port=port, identity=AGREED)
        answer = echo(peer, calling_ae="PELLUCID", timeouts=QUICK)

    assert heard == [(2, b"ward", PASSCODE.encode())]
    assert not answer.ok
    assert "are user and passcode right?" in answer.message
    assert PASSCODE not in answer.message


@pytest.mark.peers
@pytest.mark.parametrize(("passcode", "status"), [(PASSCODE, 0), ("other", 1)])
def test_sender_of_another_make_that_expects_an_answer_gets_it(tmp_path, passcode, status):
    program = require("/usr/bin/storescu", "apt install dcmtk")
    file, made = tmp_path / "image.dcm", image()
    made.ensure_file_meta()
    made.file_meta.TransferSyntaxUID = EXPLICIT
    made.save_as(file, enforce_file_format=True)
    own = ("-usr", "ward", "-pwd", passcode, "-rsp", "-aet", "CT1", "-aec", "PELLUCID")

    with node_that_knows_ct1(tmp_path, AGREED) as port:
        done = subprocess.run(
            [program, *own, "127.0.0.1", str(port), file],
            check=False,
            capture_output=True,
        )

    assert min(done.returncode, 1) == status, done.stderr
