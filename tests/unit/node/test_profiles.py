"""Profiles: who gets which results, and what stands in for what is refused."""

from typing import get_args

import pytest

from dicom_io.encode.kinds import KINDS
from node.config_peers import PeerTable
from node.plugins import ENCODERS, names
from node.profiles import FALLBACKS, PROFILES, RESERVES, Refusal, share, with_reserves

WANTED = ("report", "segmentation", "bands", "overlay")


def all_but(*refused: str):
    return lambda result: result not in refused


def test_the_configuration_knows_the_profiles_and_no_other():
    assert set(get_args(PeerTable.model_fields["profile"].annotation)) == set(PROFILES)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_asks_for_results_that_there_are(profile):
    assert set(PROFILES[profile]) <= set(names(ENCODERS)) & set(KINDS)


def test_every_reserve_is_a_stand_in_that_can_be_made():
    for result, reserve in RESERVES.items():
        assert reserve in FALLBACKS[result]
        assert reserve in names(ENCODERS)


def test_every_profile_can_be_read_by_a_person():
    assert all("report" in results for results in PROFILES.values())


def test_who_takes_everything_gets_what_was_wanted():
    given = share(WANTED, all_but())

    assert (given.results, given.refusals) == (WANTED, ())


def test_refused_segmentations_are_carried_by_the_captures_once():
    given = share(WANTED, all_but("segmentation", "bands"))

    assert given.results == ("report", "overlay")
    assert given.refusals == (
        Refusal(result="segmentation", instead="overlay"),
        Refusal(result="bands", instead="overlay"),
    )


def test_captures_stand_in_though_nobody_asked_for_them():
    given = share(("report", "bands"), all_but("bands"))

    assert given.results == ("report", "overlay")


def test_refused_enhanced_report_becomes_basic_text():
    given = share(WANTED, all_but("report"))

    assert given.results == ("report_basic", "segmentation", "bands", "overlay")


def test_the_chain_goes_on_where_the_first_stand_in_is_refused_too():
    given = share(("report",), all_but("report", "report_basic"))

    assert given.results == ("overlay",)


def test_refused_map_of_parameters_becomes_bands():
    given = share(("report", "parametric_map"), all_but("parametric_map"))

    assert given.results == ("report", "bands")


def test_captures_that_are_wanted_compressed_stand_in_so():
    given = share(("report", "segmentation", "overlay_rle"), all_but("segmentation"))

    assert given.results == ("report", "overlay_rle")


def test_captures_whose_compression_is_refused_are_sent_plain():
    given = share(("report", "segmentation", "overlay_rle"), all_but("segmentation", "overlay_rle"))

    assert given.results == ("report", "overlay")


@pytest.mark.parametrize("result", sorted(set(KINDS) - {"report_basic", "key_objects"}))
def test_every_picture_and_report_has_a_stand_in(result):
    assert set(FALLBACKS[result]) <= set(KINDS)


def test_what_nothing_stands_in_for_is_told():
    given = share(("report", "key_objects"), all_but("key_objects"))

    assert given.results == ("report",)
    assert given.refusals == (Refusal(result="key_objects", instead=""),)


def test_who_takes_nothing_gets_everything_so_that_someone_hears_of_it():
    given = share(WANTED, lambda _result: False)

    assert given.results == WANTED
    assert {refusal.instead for refusal in given.refusals} == {""}


def test_reserves_are_made_with_what_they_stand_in_for():
    assert with_reserves(("report", "bands", "report")) == ("report", "bands", "report_basic")
    assert with_reserves(("bands",)) == ("bands",)
