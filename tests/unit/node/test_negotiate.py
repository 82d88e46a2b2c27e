"""Negotiation: destinations are asked before anything is made for them, and never waited for."""

import logging
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_io.encode.kinds import sop_classes
from node.config import Peer
from node.ledger import accepted
from node.negotiate import Negotiations, NegotiationSettings, ask, peers_to_ask
from node.peer import Timeouts
from node.standin import StandInPacs
from tests.build_config import make_peer, make_route
from tests.build_ledger import new_ledger

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
QUICK = Timeouts(connect=2.0, association=2.0, response=2.0, network=2.0)
SETTINGS = NegotiationSettings(calling_ae="PELLUCID", base_seconds=60.0, timeouts=QUICK)


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def peer_at(port: int, name: str = "pacs") -> Peer:
    return Peer(name=name, ae_title="STANDIN", host="127.0.0.1", port=port)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def refused_by(engine, name: str) -> set[str]:
    found = accepted.known(engine, [name])[name]
    return {uid for uid, syntaxes in found.syntaxes.items() if not syntaxes}


def test_peer_tells_what_it_takes_and_in_which_syntaxes(tmp_path: Path):
    with StandInPacs(tmp_path, refused=[SEGMENTATION]) as pacs:
        found = ask(peer_at(pacs.port), calling_ae="PELLUCID", timeouts=QUICK)

    assert found.pop(SEGMENTATION) == ()
    assert set(found.values()) == {
        ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5")
    }


def test_peer_that_takes_none_of_it_has_answered_too(tmp_path: Path):
    with StandInPacs(tmp_path, refused=sop_classes()) as pacs:
        found = ask(peer_at(pacs.port), calling_ae="PELLUCID", timeouts=QUICK)

    assert set(found.values()) == {()}


def test_what_is_learnt_stands_in_the_ledger_and_is_told_once(engine, tmp_path, caplog):
    with StandInPacs(tmp_path / "pacs", refused=[SEGMENTATION]) as pacs:
        first = Negotiations(engine, [peer_at(pacs.port)], SETTINGS)
        second = Negotiations(engine, [peer_at(pacs.port)], SETTINGS)

        with caplog.at_level(logging.WARNING):
            asked = (first.ask_due(NOW), second.ask_due(NOW))

    assert asked == (1, 1)
    assert refused_by(engine, "pacs") == {SEGMENTATION}
    (told,) = [one for one in caplog.records if one.name == "node.negotiate"]
    assert told.refuses == "Segmentation Storage"


def test_fresh_answer_is_not_asked_for_again(engine, tmp_path):
    with StandInPacs(tmp_path / "pacs") as pacs:
        negotiations = Negotiations(engine, [peer_at(pacs.port)], SETTINGS)
        negotiations.ask_due(NOW)

        assert negotiations.ask_due(NOW + timedelta(hours=23)) == 0
        assert negotiations.ask_due(NOW + timedelta(hours=25)) == 1


def test_peer_that_contradicts_its_answer_is_asked_again_soon(engine, tmp_path):
    with StandInPacs(tmp_path / "pacs") as pacs:
        negotiations = Negotiations(engine, [peer_at(pacs.port)], SETTINGS)
        negotiations.ask_due(NOW)
        with engine.begin() as connection:
            accepted.contradict(connection, "pacs", SEGMENTATION)

        assert negotiations.ask_due(NOW + timedelta(seconds=59)) == 0
        assert refused_by(engine, "pacs") == {SEGMENTATION}
        assert negotiations.ask_due(NOW + timedelta(seconds=61)) == 1
        assert refused_by(engine, "pacs") == set()


def test_peer_out_of_reach_keeps_what_is_known_and_holds_up_nobody(engine, tmp_path):
    accepted.learn(engine, "dead", {SEGMENTATION: ()}, NOW)
    with StandInPacs(tmp_path / "pacs") as pacs:
        peers = [peer_at(closed_port(), "dead"), peer_at(pacs.port)]
        negotiations = Negotiations(engine, peers, SETTINGS)

        negotiations.ask_due(NOW)

    assert refused_by(engine, "dead") == {SEGMENTATION}
    assert refused_by(engine, "pacs") == set()


def test_peer_out_of_reach_is_asked_more_and_more_rarely(engine):
    negotiations = Negotiations(engine, [peer_at(closed_port())], SETTINGS)

    asked = [negotiations.ask_due(NOW + timedelta(seconds=each)) for each in (0, 30, 61, 90, 190)]

    assert asked == [1, 0, 1, 0, 1]


def test_whoever_may_be_owed_something_is_asked():
    peers = {name: make_peer(name, name.upper()) for name in ("pacs", "ct1")}
    web = replace(make_peer("web", ""), url="https://pacs/dicom-web", host="")
    peers["web"] = web

    named = peers_to_ask(peers, [make_route(send_to=("pacs", "web"))])
    senders = peers_to_ask(peers, [make_route(send_to=("@sender",))])

    assert [peer.name for peer in named] == ["pacs"]
    assert [peer.name for peer in senders] == ["pacs", "ct1"]
