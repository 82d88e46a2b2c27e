"""The kinds of values in configuration files: titles, hosts, names, and tables of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from node.problems import nearest

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The names that a file may refer to; None where the file that defines them is unreadable."""

    #: Folder that relative paths start from.
    folder: Path
    peers: frozenset[str] | None = None
    models: frozenset[str] | None = None
    explainers: frozenset[str] = frozenset()
    encoders: frozenset[str] = frozenset()
    loaders: frozenset[str] = field(default=frozenset())


def placed(path: str, folder: Path) -> Path:
    """Return a path of the configuration, absolute; relative ones start from its folder."""
    return (folder / Path(path).expanduser()).resolve()


def ae_title(text: str) -> str:
    """Return an AE title without outer spaces (PS3.5 6.2, VR AE).

    Raises
    ------
    ValueError
        It is longer than 16 characters, only spaces, or has a backslash or a control character.
    """
    if not text.strip():
        raise ValueError("is empty")
    if len(text) > 16:
        raise ValueError(f"{text!r} has {len(text)} characters")
    if "\\" in text or not (text.isascii() and text.isprintable()):
        raise ValueError(f"{text!r} has a backslash, or a character outside ASCII")
    return text.strip()


def host(text: str) -> str:
    """Return ``text`` if it is a host name or an IP address.

    Raises
    ------
    ValueError
        It is neither.
    """
    if not text:
        raise ValueError("is missing")
    try:
        ip_address(text)
    except ValueError:
        if not _HOST.fullmatch(text) or re.fullmatch(r"[0-9.]+", text):
            raise ValueError(f"{text!r} is neither a host name nor an IP address") from None
    return text


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError(f"{text[:80]!r} is no sha256")
    return text.lower()


def _whole(value: object) -> object:
    """Return a number for digits: what ``${env:NAME}`` puts in is always text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value) else value


def _ascending(limits: list[float]) -> list[float]:
    if limits[0] > limits[1]:
        raise ValueError(f"{limits} is empty: the first is above the second")
    return limits


def plain_name(text: str) -> str:
    """Return ``text`` if a model or a peer may be called so.

    Raises
    ------
    ValueError
        It may not; the message says why.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} holds something else than letters, digits, '-', '_' and '.', or begins "
            "with a sign"
        )
    return text


def one_of(name: str, known: Iterable[str], word: str) -> str:
    """Return ``name`` if it is known.

    Raises
    ------
    ValueError
        If not; the message names the nearest.
    """
    if name not in known:
        raise ValueError(f"there is no {word} {name!r}{nearest(name, known)}")
    return name


Text = Annotated[str, Strict()]
Truth = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
Number = Annotated[float, Strict()]
AeTitle = Annotated[Text, AfterValidator(ae_title)]
Name = Annotated[Text, AfterValidator(plain_name)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Sha256 = Annotated[Text, AfterValidator(_sha256)]
Limits = Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


class Table(BaseModel):
    """A table of TOML: no unknown keys, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    #: Keys of the design that this version does not have yet: refused with these words.
    later: ClassVar[frozenset[str]] = frozenset()
