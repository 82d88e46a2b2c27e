"""Whether what peers are known by is kept secret: in the file, and on its way."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from node.config_files import RawFile, key_path
from node.problems import Problem

#: Where http needs no secrecy.
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def token_problems(file: RawFile) -> Iterator[Problem]:
    """Yield each token or passcode that others could read, or that nobody is shown; never it."""
    peers = file.tables.get("peers")
    for name, peer in peers.items() if isinstance(peers, dict) else ():
        for key in ("token", "passcode") if isinstance(peer, dict) else ():
            place = ("peers", name, key)
            if peer.get(key) and (
                what := _mistake(key, peer, in_the_open=place not in file.filled)
            ):
                yield Problem(file=file.name, key=key_path(place, file.tables), what=what)


def _mistake(key: str, peer: Mapping[str, Any], *, in_the_open: bool) -> str:
    url = peer.get("url")
    if key == "token" and (not isinstance(url, str) or not url):
        return "is only for a peer with url"
    if key == "passcode" and not peer.get("user"):
        return "stands without user, which it belongs to"
    if in_the_open:
        return "is written in the open; expected ${file:path} or ${env:NAME}"
    return _on_its_way(str(url)) if key == "token" else ""


def _on_its_way(url: str) -> str:
    address = urlsplit(url)
    if address.scheme == "http" and address.hostname not in _THIS_MACHINE:
        return "would go over http, where anyone can read it; expected a url of https"
    return ""
