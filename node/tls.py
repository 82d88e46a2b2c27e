"""TLS as DICOM asks for it (PS3.15 B.12, after BCP 195): version 1.2 at least, forward secrecy."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError

#: Of TLS 1.2; those of 1.3 are all allowed.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
#: X509_V_ERR_* of OpenSSL: not valid yet, expired; signed by nobody known; for another name.
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)
#: What OpenSSL's reason for a failed handshake holds, and what it means; the first that fits.
_REASONS = (
    ("WRONG_VERSION_NUMBER", "does not speak TLS at this port: mend port, or take tls away"),
    ("ALERT_CERTIFICATE_EXPIRED", "says that our certificate has expired: renew tls.cert"),
    ("CERTIFICATE_REQUIRED", "asks for a certificate of ours: name it with tls.cert and tls.key"),
    (
        "ALERT_UNKNOWN_CA",
        "does not know who signed our certificate: have its authority added there",
    ),
    ("PROTOCOL", "speaks no TLS of version 1.2 or later, and older ones are not safe: update it"),
    (
        "ALERT_HANDSHAKE_FAILURE",
        "refuses the handshake: it has no cipher with forward secrecy, speaks only versions before "
        "1.2, or asks for a certificate of ours (tls.cert and tls.key)",
    ),
    ("ALERT", "does not accept our certificate: ask who runs it"),
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTls:
    """How we connect to a peer with TLS."""

    #: Name that its certificate must be for.
    host: str
    #: False: it may be for any name.
    check_host: bool = True
    #: Who may have signed it (PEM); None: the authorities that the system knows.
    ca: Path | None = None
    #: Our certificate with its chain, and its key (PEM); None: the peer is shown none.
    cert: Path | None = None
    key: Path | None = None


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return what every handshake with who connects to us begins from.

    Raises
    ------
    ConfigError
        A file is missing, or holds something else than it should.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _show(context, settings.cert, settings.key)
    if settings.ca is not None:
        _trust(context, settings.ca)
    if settings.require_client_cert:
        # Python's servers ask for none unless they are told to.
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: PeerTls) -> ssl.SSLContext:
    """Return what a handshake with a peer begins from; the files are read anew each time.

    Raises
    ------
    ConfigError
        A file is missing, or holds something else than it should.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.check_host
    if settings.ca is None:
        context.load_default_certs()
    else:
        _trust(context, settings.ca)
    if settings.cert is not None and settings.key is not None:
        _show(context, settings.cert, settings.key)
    return context


def handshake_words(error: BaseException, settings: PeerTls) -> str:
    """Return what a peer does that keeps TLS from coming about, and what to do."""
    if isinstance(error, TimeoutError):
        return "says nothing in the handshake: does it speak TLS at this port?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a certificate {_distrust(error, settings)}"
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    words = next((words for part, words in _REASONS if part in reason), None)
    if words is not None:
        return f"{words} ({reason})"
    hint = "" if settings.cert else ", does it ask for a certificate of ours"
    return f"ends the connection in the handshake: does it speak TLS at this port{hint}?"


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context


def _show(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        # Without any password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        why = f"({error}); expected PEM files, the key without a password: {cert}, {key}"
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            why = f"together: {key} is not the key of {cert}"
        raise ConfigError(f"certificate and key do not load {why}") from error


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise ConfigError(
            f"{ca} does not load ({error}); expected certificates of authorities (PEM)"
        ) from error


def _distrust(error: ssl.SSLCertVerificationError, settings: PeerTls) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "that has expired, or whose authority's has: have it renewed there"
    if code == _NOT_YET:
        return "that is not valid yet: compare the clocks here and there"
    if code in _UNKNOWN_AUTHORITY:
        known = "the system knows" if settings.ca is None else f"stands in {settings.ca.name}"
        return f"of an authority that is not trusted: none that {known} has signed it (tls.ca)"
    if code in _OTHER_NAME:
        return (
            f"that is not for {settings.host}: name what it is for with tls.host, or have one "
            "made there that is"
        )
    return f"that is not accepted: {error.verify_message}"
