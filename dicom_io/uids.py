"""UIDs that a retry derives again: same task, same identifiers."""

import uuid

from dicom_io.origin import Origin

_NAMESPACE = uuid.UUID("f1b0dd2e-6f0b-5f0e-9d63-5b1b7b4a2c90")


def derived_uid(origin: Origin, role: str, index: int = 0) -> str:
    """Return the UID of one object, series or dimension organization of a task.

    Parameters
    ----------
    role
        What the UID names within the task, such as ``"report"`` or ``"report series"``.
    index
        Distinguishes several of one role.

    Notes
    -----
    ``2.25.`` + UUID version 5 as an integer (PS3.5 B.2, RFC 4122) over the study and its
    generation, the sorted inputs, the route, the config hash, role and
    index; the destination is never part of it.
    """
    name = "\x1f".join(
        (
            origin.study_instance_uid,
            str(origin.generation),
            *sorted(origin.input_sop_instance_uids),
            origin.route,
            origin.config_hash,
            role,
            str(index),
        )
    )
    return named_uid(name)


def named_uid(name: str) -> str:
    """Return the UID that always belongs to ``name`` (for example a node's Device UID)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"
