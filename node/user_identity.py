"""Who is behind an association: a user and a passcode, ours or a peer's (PS3.7 D.3.3.7)."""

from hmac import compare_digest

from pynetdicom.pdu_primitives import UserIdentityNegotiation

from node.config import UserIdentity

#: User Identity Type.
_USER, _USER_AND_PASSCODE = 1, 2


def shown(identity: UserIdentity) -> UserIdentityNegotiation:
    """Return what we show when we open an association."""
    item = UserIdentityNegotiation()
    item.primary_field = identity.user.encode()
    item.user_identity_type = _USER
    if identity.passcode:
        item.user_identity_type = _USER_AND_PASSCODE
        item.secondary_field = identity.passcode.encode()
    return item


def is_shown(identity: UserIdentity, item: UserIdentityNegotiation | None) -> bool:
    """Return whether a peer shows what was agreed; it takes as long whatever it shows."""
    user, passcode = b"", b""
    if item is not None and item.user_identity_type in (_USER, _USER_AND_PASSCODE):
        user, passcode = item.primary_field or b"", item.secondary_field or b""
    same_user = compare_digest(user, identity.user.encode())
    same_passcode = compare_digest(passcode, identity.passcode.encode())
    return same_user and (same_passcode or not identity.passcode)


def response_to(item: UserIdentityNegotiation | None) -> UserIdentityNegotiation | None:
    """Return what a peer hears whose identity is as agreed; None unless it asks for an answer."""
    if item is None or not item.positive_response_requested:
        return None
    agreed = UserIdentityNegotiation()
    # It is empty for these types (Table D.3-15).
    agreed.server_response = b""
    return agreed
