"""Shares: what each destination of a task gets, by its profile and by what was learnt of it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.encode.kinds import sop_classes
from node.config import Peer, config_hash, embedded_config
from node.ledger import accepted
from node.shares import UNCOMPRESSED, plan_for, refused_results, shares_of, takers
from node.task import RefusedResult
from tests.build_config import make_peer, make_route
from tests.build_ledger import new_ledger

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
GENERIC = ("report", "measurements", "segmentation", "bands", "overlay")


@pytest.fixture
def engine(tmp_path):
    engine = new_ledger(tmp_path)
    yield engine
    engine.dispose()


def config_with(*peers: Peer):
    config = embedded_config(Path("/nowhere"))
    return replace(config, peers={peer.name: peer for peer in peers})


def peer(name: str, profile: str = "generic") -> Peer:
    return replace(make_peer(name, name.upper()), profile=profile)


def learn(engine, destination: str, *refused: str) -> None:
    """Put down that a destination takes everything but these SOP classes."""
    found = {uid: () if uid in refused else UNCOMPRESSED for uid in sop_classes()}
    accepted.learn(engine, destination, found, NOW)


def test_each_destination_gets_what_its_profile_says(engine):
    config = config_with(peer("pacs"), peer("vna", "archive"))

    shares = shares_of(engine, config, make_route(results=None), ["pacs", "vna"])

    assert shares["pacs"].results == GENERIC
    assert shares["vna"].results == ("report", "measurements", "segmentation", "bands")


def test_results_of_the_route_go_before_the_profile(engine):
    config = config_with(peer("vna", "archive"))

    shares = shares_of(engine, config, make_route(results=("overlay",)), ["vna"])

    assert shares["vna"].results == ("overlay",)


def test_destination_that_was_never_reached_is_owed_its_whole_profile(engine):
    config = config_with(peer("pacs"))

    shares = shares_of(engine, config, make_route(results=None), ["pacs"])

    assert (shares["pacs"].results, shares["pacs"].refusals) == (GENERIC, ())


def test_what_was_learnt_of_one_destination_leaves_the_other_as_it_is(engine):
    config = config_with(peer("pacs"), peer("old"))
    learn(engine, "pacs")
    learn(engine, "old", SEGMENTATION)

    shares = shares_of(engine, config, make_route(results=None), ["pacs", "old"])

    assert shares["pacs"].results == GENERIC
    assert shares["old"].results == ("report", "measurements", "overlay")
    assert refused_results(shares) == (
        RefusedResult(destination="old", result="segmentation", instead="overlay"),
        RefusedResult(destination="old", result="bands", instead="overlay"),
    )


def test_the_plan_makes_each_object_once_for_all_destinations(engine):
    config = config_with(peer("pacs"), peer("old"))
    learn(engine, "old", ENHANCED_SR)
    route = make_route(results=None)

    plan = plan_for(config, route, shares_of(engine, config, route, ["pacs", "old"]))

    assert sorted(plan.results) == [
        *("bands", "measurements", "overlay", "report", "report_basic", "segmentation")
    ]


def test_a_shadow_makes_what_its_route_asks_for(engine):
    config = config_with(peer("pacs"))

    plan = plan_for(config, make_route(results=("bands",)), {})

    assert plan.results == ("bands",)


def test_each_object_is_owed_to_those_alone_that_take_its_kind(engine):
    config = config_with(peer("pacs"), peer("old"))
    learn(engine, "old", SEGMENTATION)
    shares = shares_of(engine, config, make_route(results=None), ["pacs", "old"])

    assert takers("segmentation", shares) == ("pacs",)
    assert takers("report", shares) == ("pacs", "old")
    assert takers("report_basic", shares) == ()


def test_compressed_alone_is_not_taken(engine):
    config = config_with(peer("pacs"))
    rle = ("1.2.840.10008.1.2.5",)
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), rle), NOW)

    shares = shares_of(engine, config, make_route(results=None), ["pacs"])

    assert len(shares["pacs"].refusals) == len(GENERIC)


def test_compressed_captures_go_to_who_takes_the_compression(engine):
    config = config_with(peer("pacs"), peer("old"))
    rle = "1.2.840.10008.1.2.5"
    accepted.learn(engine, "pacs", dict.fromkeys(sop_classes(), (*UNCOMPRESSED, rle)), NOW)
    learn(engine, "old")
    route = make_route(results=("report", "overlay_rle"))

    shares = shares_of(engine, config, route, ["pacs", "old"])

    assert shares["pacs"].results == ("report", "overlay_rle")
    assert shares["old"].results == ("report", "overlay")


def test_identifiers_do_not_depend_on_what_was_learnt(engine):
    config = config_with(peer("pacs"))
    route = make_route(results=None)
    before = config_hash(config, route)

    learn(engine, "pacs", SEGMENTATION, ENHANCED_SR)

    assert plan_for(config, route, shares_of(engine, config, route, ["pacs"])).results != GENERIC
    assert config_hash(config, route) == before


def test_identifiers_do_not_depend_on_the_profile():
    route = make_route(results=None)

    first = config_hash(config_with(peer("pacs")), route)
    second = config_hash(config_with(peer("pacs", "archive")), route)

    assert first == second


def test_identifiers_depend_on_the_results_that_a_route_names():
    config = config_with(peer("pacs"))

    assert config_hash(config, make_route(results=GENERIC)) != config_hash(
        config, make_route(results=None)
    )
