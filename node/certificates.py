"""When a certificate expires (RFC 5280 4.1.2.5)."""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
#: Tags of DER (X.690): the version of a certificate, and one of the two kinds of times.
_VERSION, _UTC_TIME = 0xA0, 0x17


def expiry(file: Path) -> datetime:
    """Return when the first certificate in a PEM file expires.

    Raises
    ------
    ValueError
        There is none, or none that can be read.
    OSError
        The file cannot be read.
    """
    found = _CERTIFICATE.search(file.read_text(encoding="ascii", errors="replace"))
    if found is None:
        raise ValueError(f"{file.name} holds no certificate (PEM)")
    try:
        (_, certificate), *_ = _elements(ssl.PEM_cert_to_DER_cert(found[0]))
        (_, signed), *_ = _elements(certificate)
        fields = [content for tag, content in _elements(signed) if tag != _VERSION]
        # Serial number, algorithm of the signature, issuer, validity.
        _, (tag, until) = _elements(fields[3])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{file.name} holds a certificate that cannot be read") from error
    # Two digits of a year stand for 1950 to 2049.
    century = ("19" if until[:2] >= b"50" else "20") if tag == _UTC_TIME else ""
    return datetime.strptime(f"{century}{until.decode()}", "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element, one level deep."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        yield tag, der[at : at + length]
        at += length
