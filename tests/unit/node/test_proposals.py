"""Requests to associate that came before are not decoded anew."""

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from node.proposals import Proposals
from tests.build_wire import EXPLICIT, MR_IMAGE


def request(calling="CT1", *more_items, contexts=()):
    """Return the bytes of an A-ASSOCIATE-RQ PDU."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, "PELLUCID"
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [longest, implementation, *more_items]
    context = build_context(MR_IMAGE, EXPLICIT)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context, *contexts]
    return A_ASSOCIATE_RQ(primitive).encode()


def password(text):
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field, identity.secondary_field = b"user", text
    return identity


def test_what_comes_again_is_not_decoded_again():
    proposals = Proposals()

    assert proposals.decoded(request()) is proposals.decoded(request())


def test_it_says_what_pynetdicom_says():
    plain = A_ASSOCIATE_RQ()
    plain.decode(request())

    decoded = Proposals().decoded(request())

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
    first = proposals.decoded(request()).to_primitive()
    first.result = 1

    assert proposals.decoded(request()).to_primitive().result is None


def test_senders_are_told_apart():
    proposals = Proposals()
    asked = [proposals.decoded(request(name)).to_primitive() for name in ("CT1", "CT2")]

    assert [each.calling_ae_title for each in asked] == ["CT1", "CT2"]


def test_passwords_are_not_kept():
    proposals, asked = Proposals(), request("CT1", password(b"secret"))

    assert proposals.decoded(asked) is not proposals.decoded(asked)


def test_what_is_long_is_not_kept():
    proposals = Proposals()
    contexts = [build_context(MR_IMAGE, EXPLICIT) for _ in range(400)]
    for context in contexts:
        context.context_id = 1
    long = request("CT1", contexts=contexts)
    assert len(long) > 1 << 14
    assert proposals.decoded(long) is not proposals.decoded(long)


def test_only_the_last_are_kept():
    proposals = Proposals()
    first = proposals.decoded(request())
    for number in range(100):
        proposals.decoded(request(f"CT{number + 2}"))

    assert proposals.decoded(request()) is not first
    last = proposals.decoded(request("CT101"))
    assert proposals.decoded(request("CT101")) is last


def test_what_cannot_be_decoded_is_refused_each_time():
    proposals = Proposals()
    for _ in range(2):
        with pytest.raises(AssertionError):
            proposals.decoded(request()[:90])
