"""Silence for the libraries on the wire: what they print by themselves holds patient data."""

import logging
import warnings

from pydicom import config
from pynetdicom import _config

#: PS3.5 9.1.
_LONGEST_UID = 64


def quiet_libraries() -> None:
    """Switch off what the libraries print by themselves; for the whole process."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    for library in ("pynetdicom", "pydicom", "dicomweb_client", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=library)


def trust_uids() -> None:
    """Have UIDs checked less often, in a process that checks what it needs itself.

    A request to associate holds hundreds of UIDs, each of them checked five times: that costs more
    than to negotiate. That they have a length is still asked for.
    """
    config.settings.reading_validation_mode = config.IGNORE
    _config.VALIDATORS["UI"] = _has_length


def _has_length(uid: str) -> tuple[bool, str]:
    return 0 < len(uid) <= _LONGEST_UID, f"must have 1 to {_LONGEST_UID} characters"
