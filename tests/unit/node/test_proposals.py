"""Requests to associate that came before are not decoded anew."""

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ

from node.proposals import Proposals
from tests.build_wire import EXPLICIT, MR_IMAGE
from tests.fault.pdu import associate_rq, user_identity


def test_what_comes_again_is_not_decoded_again():
    proposals = Proposals()

    assert proposals.decoded(associate_rq()) is proposals.decoded(associate_rq())


def test_it_says_what_pynetdicom_says():
    plain = A_ASSOCIATE_RQ()
    plain.decode(associate_rq())

    decoded = Proposals().decoded(associate_rq())

    assert decoded == plain
    expected, primitive = plain.to_primitive(), decoded.to_primitive()
    assert vars(primitive).keys() == vars(expected).keys()
    assert primitive.calling_ae_title == expected.calling_ae_title == "CT1"
    assert (
        primitive.presentation_context_definition_list
        == expected.presentation_context_definition_list
    )


def test_what_becomes_of_one_association_is_nothing_to_the_next():
    proposals = Proposals()
    first = proposals.decoded(associate_rq()).to_primitive()
    first.result = 1

    assert proposals.decoded(associate_rq()).to_primitive().result is None


def test_senders_are_told_apart():
    proposals = Proposals()
    asked = [
        proposals.decoded(associate_rq(calling=name)).to_primitive() for name in ("CT1", "CT2")
    ]

    assert [each.calling_ae_title for each in asked] == ["CT1", "CT2"]


def test_who_somebody_is_is_not_kept():
    proposals, asked = Proposals(), associate_rq(more=user_identity(b"user"))

    assert proposals.decoded(asked) is not proposals.decoded(asked)


def test_what_is_long_is_not_kept():
    proposals = Proposals()
    asked = associate_rq(contexts=[(1, MR_IMAGE, [EXPLICIT] * 1000)])

    assert proposals.decoded(asked) is not proposals.decoded(asked)


def test_only_the_last_are_kept():
    proposals = Proposals()
    first = proposals.decoded(associate_rq())
    for number in range(100):
        proposals.decoded(associate_rq(calling=f"CT{number + 2}"))

    assert proposals.decoded(associate_rq()) is not first
    last = proposals.decoded(associate_rq(calling="CT101"))
    assert proposals.decoded(associate_rq(calling="CT101")) is last


def test_what_cannot_be_decoded_is_refused_each_time():
    proposals = Proposals()
    for _ in range(2):
        with pytest.raises(AssertionError):
            proposals.decoded(associate_rq()[:90])
