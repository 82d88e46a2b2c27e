"""Routes: which studies they want, of whom, and where results go."""

from dataclasses import replace

import pytest

from dicom_io.select import Selector
from node.config import Mode
from node.routing import destinations_of, judge, matching_routes, senders_of
from node.when import WhenError, check_when, holds
from tests.build_config import make_peer, make_reception, make_route, make_study

PEERS = {
    "ct1": make_peer("ct1", "CT1"),
    "mr1": make_peer("mr1", "MR1", "10.0.0.2"),
    "pacs": make_peer("pacs", "MAINPACS", "10.0.0.3"),
}


def matched(route, study=None, receptions=None):
    study = study or make_study({})
    receptions = [make_reception()] if receptions is None else receptions
    return bool(matching_routes(study, receptions, [route], PEERS))


def test_a_route_without_conditions_wants_any_image():
    assert matched(make_route())


def test_a_route_that_is_not_enabled_wants_nothing():
    assert not matched(make_route(enabled=False))


def test_the_called_title_chooses_the_route():
    route = make_route(called=("XAI_HEAD",))

    assert matched(route, receptions=[make_reception(called="XAI_HEAD")])
    assert not matched(route, receptions=[make_reception(called="PELLUCID")])


def test_the_sender_chooses_the_route():
    route = make_route(from_peers=("ct1",))

    assert matched(route, receptions=[make_reception(calling="CT1")])
    assert not matched(route, receptions=[make_reception(calling="MR1")])
    assert not matched(route, receptions=[make_reception(calling="STRANGER")])


def test_one_arrival_must_meet_both_title_and_sender():
    route = make_route(called=("XAI_HEAD",), from_peers=("ct1",))
    receptions = [
        make_reception(called="XAI_HEAD", calling="MR1"),
        make_reception(called="PELLUCID", calling="CT1"),
    ]

    assert not matched(route, receptions=receptions)


def test_every_entry_of_select_must_find_a_series():
    t1 = Selector(name="t1", conditions={"SeriesDescription": "T1"})
    flair = Selector(name="flair", conditions={"SeriesDescription": "FLAIR"})
    route = make_route(select=(t1, flair))

    assert matched(route, make_study({"SeriesDescription": "T1"}, {"SeriesDescription": "FLAIR"}))
    assert not matched(route, make_study({"SeriesDescription": "T1"}))


def test_when_is_asked_of_selected_series_only():
    t1 = Selector(name="t1", conditions={"SeriesDescription": "T1"})
    route = make_route(select=(t1,), when="'FLAIR' in tags.SeriesDescription")
    study = make_study({"SeriesDescription": "T1"}, {"SeriesDescription": "FLAIR"})

    assert not matched(route, study)


def test_one_series_for_which_when_is_true_is_enough():
    route = make_route(when="'T1' in upper(tags.SeriesDescription)")

    assert matched(route, make_study({"SeriesDescription": "flair"}, {"SeriesDescription": "t1"}))
    assert not matched(route, make_study({"SeriesDescription": "flair"}))


def test_when_is_asked_of_an_image_that_conforms():
    route = make_route(when="number(tags.Rows) == 512")
    study = make_study({"Rows": "512"})
    first, second = study.series[0].instances
    cut = replace(first, tags={"Modality": "MR"}, nonconformance="an element's head is cut")
    series = replace(study.series[0], instances=(cut, second))

    assert matched(route, replace(study, series=(series,)))


def test_a_match_names_all_that_select_takes():
    t1 = Selector(name="t1", conditions={"SeriesDescription": "T1"})
    study = make_study({"SeriesDescription": "T1"}, {"SeriesDescription": "FLAIR"})

    match = matching_routes(study, [make_reception()], [make_route(select=(t1,))], PEERS)[0]

    assert match.selected == {"1.2.1.1", "1.2.1.2"}
    assert match.destinations == ("pacs",)


def test_results_go_back_to_whoever_sent_what_the_route_wants():
    route = make_route(called=("XAI",), send_to=("@sender", "pacs"))
    receptions = [
        make_reception(called="XAI", calling="CT1"),
        make_reception(called="XAI", calling="CT1"),
        make_reception(called="PELLUCID", calling="MR1", address="10.0.0.2"),
    ]

    assert destinations_of(route, receptions, PEERS) == ("ct1", "pacs")


def test_a_destination_that_is_also_the_sender_is_owed_once():
    route = make_route(send_to=("@sender", "pacs"))
    receptions = [make_reception(calling="MAINPACS", address="10.0.0.3")]

    assert destinations_of(route, receptions, PEERS) == ("pacs",)


def test_a_shadow_owes_nobody():
    route = make_route(mode=Mode.SHADOW, send_to=("pacs", "@sender"))

    assert matched(route)
    assert destinations_of(route, [make_reception()], PEERS) == ()


def test_peers_of_one_title_are_told_apart_by_their_address():
    peers = {"a": make_peer("a", "CT", "10.0.0.1"), "b": make_peer("b", "CT", "10.0.0.2")}

    assert senders_of(make_reception(calling="CT", address="10.0.0.2"), peers) == ("b",)


def test_each_rule_says_why_it_matched_or_not():
    route = make_route(
        called=("XAI",), from_peers=("ct1",), when="tags.Modality == 'CT'", send_to=()
    )

    judgement = judge(make_study({}), [make_reception(called="XAI")], route, PEERS)

    assert judgement.match is None
    assert judgement.reasons == (
        "called XAI: the study was sent to XAI",
        "from ct1: the study came from CT1",
        "select image takes 1.2.1",
        "when is not true of a selected series: tags.Modality == 'CT'",
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", True),
        ("tags.Modality == 'MR'", True),
        ("tags.Modality != 'MR'", False),
        ("tags.Modality == 'MR' and 'T1' in upper(tags.SeriesDescription)", True),
        ("tags.Modality == 'CT' or lower(tags.Modality) == 'mr'", True),
        ("tags.Modality in ('CT', 'MR')", True),
        ("tags.Modality not in ['CT', 'MR']", False),
        ("number(tags.SliceThickness) <= 1.5", True),
        ("0.5 < number(tags.SliceThickness) < 1", False),
        ("number(tags.EchoTime) < 100", False),
        ("number(tags.ImageType) < 100", False),
        ("not tags.ContrastBolusAgent", True),
        ("tags.ContrastBolusAgent == ''", True),
        ("number(tags.SliceThickness) > -1", True),
    ],
)
def test_when_speaks_of_tags(expression, expected):
    tags = {
        "Modality": "MR",
        "SeriesDescription": "t1 mprage",
        "SliceThickness": "1.2",
        "ImageType": "ORIGINAL\\PRIMARY",
    }

    if expression:
        check_when(expression)
    assert holds(expression, tags) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "tags",
        "tags.Modality ==",
        "tags.Modality = 'MR'",
        "tags.modality == 'MR'",
        "tags.__class__",
        "tags.Modality.upper()",
        "''.join(['a'])",
        "__import__('os').system('true')",
        "().__class__",
        "'a' * 1000000000",
        "9 ** 9 ** 9",
        "[x for x in tags]",
        "lambda: 1",
        "open('x')",
        "f'{tags}'",
        "tags['Modality'] == 'MR'",
        "upper(1) == 'A'",
        "upper() == 'A'",
        "number(tags.EchoTime) == '3'",
        "tags.EchoTime < 3",
        "3 in tags.EchoTime",
        "tags.Modality is 'MR'",
        "unknown == 'x'",
        "b'x' == 'x'",
        "None",
        "not " * 60 + "tags.Modality",
        "(" * 3000,
        "'x' == '" + "x" * 3000 + "'",
    ],
)
def test_when_has_no_other_words(expression):
    with pytest.raises(WhenError):
        check_when(expression)
