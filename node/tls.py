"""TLS as DICOM asks for it (PS3.15 B.12, after BCP 195): version 1.2 at least, forward secrecy."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError

#: Of TLS 1.2; those of 1.3 are all allowed.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """How peers connect with TLS."""

    #: 0 lets the system choose.
    port: int
    #: Our certificate with its chain, and its key (PEM).
    cert: Path
    key: Path
    #: Who has signed the certificates of peers (PEM); None: nobody is asked for one.
    ca: Path | None
    #: False: whoever has none may connect, and is known by AE title and address alone.
    require_client_cert: bool


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return what every handshake begins from.

    Raises
    ------
    ConfigError
        A file is missing, or holds something else than it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(settings.cert, settings.key)
        if settings.ca is not None:
            context.load_verify_locations(settings.ca)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (settings.cert, settings.key, settings.ca) if file)
        raise ConfigError(
            f"node.tls: certificate and key do not load ({error}); expected PEM files that belong "
            f"together: {files}"
        ) from error
    if settings.require_client_cert:
        # Python's servers ask for none unless they are told to.
        context.verify_mode = ssl.CERT_REQUIRED
    return context
