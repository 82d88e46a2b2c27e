"""The tables of node.toml: which keys there are, and what each may hold."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from node.config_types import (
    AeTitle,
    Known,
    Name,
    Number,
    Port,
    Table,
    Text,
    Truth,
    Whole,
    ae_title,
    host,
    one_of,
    placed,
)
from node.tls import PeerTls, TlsSettings, client_context, server_context


class TlsTable(Table):
    """A second port, for connections with TLS (PS3.15 B.12)."""

    port: Port = Field(default=2762, description="a whole number from 1 to 65535")
    cert: Text = Field(description="a file of our certificate and its chain (PEM)")
    key: Text = Field(description="a file of its key (PEM)")
    ca: Text = Field(
        default="", description="a file of the certificates that sign those of peers (PEM)"
    )
    require_client_cert: Truth = Field(default=True, description="true or false")

    @field_validator("cert", "key", "ca")
    @classmethod
    def _is_there(cls, text: str, info: ValidationInfo) -> str:
        return existing_file(text, info)

    @model_validator(mode="after")
    def _can_ask(self) -> Self:
        if self.require_client_cert and not self.ca:
            raise ValueError(
                "asks peers for certificates, so ca must name who signs them; or set "
                "require_client_cert = false"
            )
        return self

    @model_validator(mode="after")
    def _loads(self, info: ValidationInfo) -> Self:
        folder = _folder(info)
        server_context(
            TlsSettings(
                port=self.port,
                cert=placed(self.cert, folder),
                key=placed(self.key, folder),
                ca=placed(self.ca, folder) if self.ca else None,
                require_client_cert=self.require_client_cert,
            )
        )
        return self


class NodeTable(Table):
    """Who this node is, and where it works."""

    ae_title: AeTitle = Field(
        default="PELLUCID", description="1 to 16 characters of ASCII, no backslash"
    )
    bind: Text = Field(default="", description="a local IP address, or empty for every interface")
    port: Port = Field(default=11112, description="a whole number from 1 to 65535")
    data: Text = Field(default="", description="a folder")
    database: Text = Field(
        default="", description="an SQLAlchemy URL, sqlite:/// or postgresql+psycopg://"
    )
    workers: Whole = Field(default=1, ge=1, le=64, description="a whole number from 1 to 64")
    task_minutes: Number = Field(
        default=60.0, ge=60, le=1440, description="minutes, from 60 to 1440"
    )
    task_memory_gb: Number | None = Field(default=None, gt=0, description="gigabytes, more than 0")
    receivers: Whole = Field(default=1, ge=1, le=16, description="a whole number from 1 to 16")
    tls: TlsTable | None = Field(default=None, description="a table: port, cert, key, ca")

    @field_validator("bind")
    @classmethod
    def _is_address(cls, text: str) -> str:
        return text and str(ip_address(text))

    @field_validator("database")
    @classmethod
    def _is_database(cls, text: str) -> str:
        if text and not text.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError(f"the scheme {text.split(':', 1)[0]!r} is not supported")
        return text


class StorageTable(Table):
    """When the store is too full to receive, and when it deletes what is done with."""

    reserve_gb: Number = Field(default=2.0, ge=0, description="gigabytes that must stay free")
    retention_days: Number = Field(
        default=7.0, gt=0, le=36500, description="days, more than 0 and at most 36500"
    )
    watermark_percent: Number = Field(
        default=90.0, gt=0, le=100, description="a percentage, more than 0 and at most 100"
    )


class IngestTable(Table):
    """What is accepted from senders."""

    strict: Truth = Field(default=True, description="true or false")


class SiteTable(Table):
    """The installation, as it is written into every object."""

    later: ClassVar[frozenset[str]] = frozenset({"uid_root"})
    institution: Text = Field(
        default="", max_length=64, description="text of at most 64 characters"
    )
    device_serial_number: Text = Field(
        default="", max_length=64, description="at most 64 characters"
    )


class PeerTlsTable(Table):
    """Our associations go over TLS (PS3.15 B.12), and how each side knows the other."""

    ca: Text = Field(
        default="", description="a file of the certificates that sign the peer's (PEM)"
    )
    cert: Text = Field(default="", description="a file of our certificate and its chain (PEM)")
    key: Text = Field(
        default="", validate_default=True, description="a file of the key of cert (PEM)"
    )
    host: Text = Field(default="", description="the name that the peer's certificate is for")
    check_host: Truth = Field(default=True, description="true or false")

    @field_validator("ca", "cert", "key")
    @classmethod
    def _is_there(cls, text: str, info: ValidationInfo) -> str:
        return existing_file(text, info)

    @field_validator("key")
    @classmethod
    def _is_with_cert(cls, text: str, info: ValidationInfo) -> str:
        if "cert" in info.data and bool(text) != bool(info.data["cert"]):
            raise ValueError("cert and key stand together or not at all")
        return text

    @field_validator("host")
    @classmethod
    def _is_host(cls, text: str) -> str:
        return text and host(text)

    @model_validator(mode="after")
    def _loads(self, info: ValidationInfo) -> Self:
        ca, cert, key = (
            placed(file, _folder(info)) if file else None for file in (self.ca, self.cert, self.key)
        )
        client_context(PeerTls(host=self.host, ca=ca, cert=cert, key=key))
        if not (self.check_host or self.ca):
            raise ValueError("check_host = false needs ca: else anyone's certificate would do")
        return self


class PeerTable(Table):
    """Another application entity, or a DICOMweb service."""

    url: Text = Field(default="", description="where DICOMweb begins, as https://pacs/dicom-web")
    ae_title: Text = Field(
        default="", validate_default=True, description="1 to 16 characters of ASCII, no backslash"
    )
    host: Text = Field(
        default="", validate_default=True, description="a host name or an IP address"
    )
    port: Port = Field(default=104, description="a whole number from 1 to 65535")
    token: Text = Field(default="", description="what the service knows us by, beside url")
    ca: Text = Field(default="", description="a file of certificates (PEM), beside url")
    tls: PeerTlsTable | None = Field(
        default=None, description="a table: ca, cert, key, host, check_host"
    )
    user: Text = Field(default="", description="at most 255 characters")
    passcode: Text = Field(default="", description="at most 255 characters")
    allow: list[Text] = Field(
        default=["echo", "store"], description="a list of 'echo', 'store' and 'commit'"
    )
    commitment: Truth = Field(default=False, description="true or false")
    readback: Truth = Field(default=False, description="true or false")
    profile: Literal["generic", "ohif", "weasis", "archive"] = Field(
        default="generic", description="'generic', 'ohif', 'weasis' or 'archive'"
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, text: str) -> str:
        if text:
            _require_service(urlsplit(text))
        return text

    @field_validator("ae_title")
    @classmethod
    def _is_title(cls, text: str, info: ValidationInfo) -> str:
        if text or not _has_url(info):
            return ae_title(text)
        return text

    @field_validator("host")
    @classmethod
    def _is_host(cls, text: str, info: ValidationInfo) -> str:
        if text or info.data.get("ae_title") or not _has_url(info):
            return host(text)
        return text

    @field_validator("token")
    @classmethod
    def _is_token(cls, text: str) -> str:
        if not (text.isascii() and text.isprintable()) or text != text.strip():
            raise ValueError("holds something else than printable ASCII on one line")
        return text

    @field_validator("ca")
    @classmethod
    def _is_file(cls, text: str, info: ValidationInfo) -> str:
        if text and not _has_url(info):
            raise ValueError("is only for a peer with url; that of an association is tls.ca")
        return existing_file(text, info)

    @field_validator("tls")
    @classmethod
    def _is_for_associations(cls, tls: PeerTlsTable | None, info: ValidationInfo) -> object:
        if tls is not None and info.data.get("url"):
            raise ValueError("is not for a peer with url; its https is checked against ca")
        return tls

    @field_validator("user")
    @classmethod
    def _is_for_host(cls, text: str, info: ValidationInfo) -> str:
        if text and info.data.get("url") and not info.data.get("host"):
            raise ValueError("is only for a peer with ae_title and host; a service gets a token")
        return _shown(text)

    @field_validator("passcode")
    @classmethod
    def _is_passcode(cls, text: str) -> str:
        return _shown(text)

    @field_validator("allow")
    @classmethod
    def _are_services(cls, services: list[str]) -> list[str]:
        for service in services:
            if service in {"find", "move"}:
                raise ValueError(f"{service!r} is not available in this version")
            one_of(service, ("echo", "store", "commit"), "service")
        return services

    @field_validator("commitment")
    @classmethod
    def _can_be_answered(cls, asked: bool, info: ValidationInfo) -> bool:
        if asked and info.data.get("url"):
            raise ValueError("cannot be asked of a peer with url, which answers no N-ACTION")
        if asked and "commit" not in info.data.get("allow", ["commit"]):
            raise ValueError(
                "is answered over an association of the peer's own, so allow must hold 'commit'"
            )
        return asked


def existing_file(text: str, info: ValidationInfo) -> str:
    """Return the name of a file, seen from the folder of the configuration, that is there.

    Raises
    ------
    ValueError
        It is not there.
    """
    if text and not placed(text, _folder(info)).is_file():
        raise ValueError(f"there is no file {text!r}")
    return text


def _folder(info: ValidationInfo) -> Path:
    return info.context.folder if isinstance(info.context, Known) else Path()


def _shown(text: str) -> str:
    """Return what may be shown as a user or a passcode; a mistake does not repeat it."""
    if not text.isprintable() or len(text) > 255:
        raise ValueError("is too long, or holds a character that cannot be printed")
    return text


def _has_url(info: ValidationInfo) -> bool:
    """Return whether there is a url; also where it is wrong, which is told already."""
    return "url" not in info.data or bool(info.data["url"])


def _require_service(address: SplitResult) -> None:
    """Refuse what is no plain address of a web service.

    Raises
    ------
    ValueError
        The message says why; it never repeats a password.
    """
    if address.username is not None:
        raise ValueError("holds a name or a password, which must stand in token")
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ValueError("begins neither with https://HOST nor with http://HOST")
    if address.query or address.fragment:
        raise ValueError("holds '?' or '#'")


def _peer_from_list(value: object) -> object:
    """Return a table for the short form ``["AE", "host", port]``."""
    if isinstance(value, list):
        if len(value) != 3:
            raise ValueError(f'the short form is ["AE TITLE", "host", port], not {value!r}')
        return dict(zip(("ae_title", "host", "port"), value, strict=True))
    return value


ShortPeer = tuple[str, str, int]
Peers = dict[
    Name,
    Annotated[
        PeerTable, BeforeValidator(_peer_from_list, json_schema_input_type=PeerTable | ShortPeer)
    ],
]


class NodeFile(Table):
    """node.toml."""

    node: NodeTable = NodeTable()
    storage: StorageTable = StorageTable()
    ingest: IngestTable = IngestTable()
    site: SiteTable = SiteTable()
    peers: Peers = Field(
        default={}, description='tables [peers.NAME], or NAME = ["AE", "host", port]'
    )
