"""Silence for the libraries on the wire: what they print by themselves holds patient data."""

import logging
import warnings

from pydicom import config
from pynetdicom import _config


def quiet_libraries() -> None:
    """Switch off what the libraries print by themselves; for the whole process."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    for library in ("pynetdicom", "pydicom", "dicomweb_client", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=library)


def trust_uids() -> None:
    """Have pydicom check no value when it is read; for a process that checks what it needs itself.

    A request to associate holds hundreds of UIDs, each of them checked five times: that costs more
    than to negotiate.
    """
    config.settings.reading_validation_mode = config.IGNORE
