"""Every status that a destination can answer means one thing (PS3.4 B.2.3, PS3.7 C)."""

from collections import Counter

import pytest
from pynetdicom.status import code_to_category

from node.answer import Fate, answer_of, keeps

#: First and last status of each run of the 65 536 with one fate, written down apart from the code.
RUNS = (
    (0x0000, 0x0001, Fate.DELIVERED),
    (0x0002, 0x0106, Fate.REFUSED),
    (0x0107, 0x0107, Fate.DELIVERED),
    (0x0108, 0x010F, Fate.REFUSED),
    (0x0110, 0x0110, Fate.POSTPONED),
    (0x0111, 0x0111, Fate.DELIVERED),
    (0x0112, 0x0115, Fate.REFUSED),
    (0x0116, 0x0116, Fate.DELIVERED),
    (0x0117, 0x0212, Fate.REFUSED),
    (0x0213, 0x0213, Fate.POSTPONED),
    (0x0214, 0xA6FF, Fate.REFUSED),
    (0xA700, 0xA7FF, Fate.POSTPONED),
    (0xA800, 0xAFFF, Fate.REFUSED),
    (0xB000, 0xBFFF, Fate.DELIVERED),
    (0xC000, 0xFFFF, Fate.REFUSED),
)
DUPLICATE = 0x0111


def test_the_runs_hold_every_status_once():
    counted = Counter(status for first, last, _ in RUNS for status in range(first, last + 1))

    assert counted == Counter(range(0x10000))


@pytest.mark.parametrize(
    ("first", "last", "fate"), RUNS, ids=[f"{first:04X}-{last:04X}" for first, last, _ in RUNS]
)
def test_status_has_one_fate(first, last, fate):
    assert {answer_of(status).fate for status in range(first, last + 1)} == {fate}


def test_delivered_is_what_the_standard_calls_success_or_warning_and_what_is_there_already():
    there = {status for status in range(0x10000) if keeps(status)}

    standard = {
        status
        for status in range(0x10000)
        if code_to_category(status) in {"Success", "Warning"} or status == DUPLICATE
    }
    assert there == standard


def test_whatever_is_not_delivered_says_why_with_its_status():
    answers = [answer_of(status) for status in range(0x10000)]

    assert [one.status for one in answers] == list(range(0x10000))
    unexplained = [
        one
        for one in answers
        if (one.fate is Fate.DELIVERED) != (one.reason == "")
        or (one.reason and f"0x{one.status:04X}" not in one.reason)
    ]
    assert unexplained == []
