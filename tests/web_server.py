"""A small STOW-RS server on loopback that answers as a test wants: well, badly, or never."""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import dcmread

_BOUNDARY = b"boundary="


@dataclass(frozen=True, kw_only=True)
class WebAnswer:
    """One response."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class WebServer:
    """A running server, and what it was asked."""

    port: int = 0
    scheme: str = "http"
    #: SOP Instance UIDs of each POST, in order.
    posts: list[tuple[str, ...]] = field(default_factory=list)
    #: The objects as they came, by SOP Instance UID.
    objects: dict[str, bytes] = field(default_factory=dict)
    authorizations: list[str | None] = field(default_factory=list)
    hosts: list[str | None] = field(default_factory=list)
    #: Paths of each GET, in order.
    searches: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/dicom-web"


def stored(*uids: str, warning: int | None = None) -> list[dict[str, Any]]:
    """Return items of a Referenced SOP Sequence."""
    items = [_item(uid) for uid in uids]
    for item in items:
        if warning is not None:
            item["00081196"] = {"vr": "US", "Value": [warning]}
    return items


def failed(*uids: str, reason: int | None) -> list[dict[str, Any]]:
    """Return items of a Failed SOP Sequence."""
    items = [_item(uid) for uid in uids]
    for item in items:
        if reason is not None:
            item["00081197"] = {"vr": "US", "Value": [reason]}
    return items


def module(
    status: int,
    *,
    kept: list[dict[str, Any]] | None = None,
    refused: list[dict[str, Any]] | None = None,
    media_type: str = "application/dicom+json",
) -> WebAnswer:
    """Return a response with a Store Instances Response Module (PS3.18 I.2)."""
    content: dict[str, Any] = {}
    if kept:
        content["00081199"] = {"vr": "SQ", "Value": kept}
    if refused:
        content["00081198"] = {"vr": "SQ", "Value": refused}
    body = json.dumps(content).encode()
    return WebAnswer(status=status, body=body, headers={"Content-Type": media_type})


def keep_all(uids: tuple[str, ...]) -> WebAnswer:
    return module(200, kept=stored(*uids))


@contextlib.contextmanager
def web_server(
    answer: Callable[[tuple[str, ...]], WebAnswer | None] = keep_all,
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[WebServer]:
    """Run a server.

    Parameters
    ----------
    answer
        From the SOP Instance UIDs of a POST to the response; with None it never comes.
    """
    seen, ended = WebServer(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(seen, answer, ended))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        seen.scheme = "https"
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def _handler(
    seen: WebServer, answer: Callable[[tuple[str, ...]], WebAnswer | None], ended: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            objects = _parts(_body(self), self.headers["Content-Type"])
            seen.posts.append(tuple(objects))
            seen.objects.update(objects)
            seen.hosts.append(self.headers["Host"])
            self._respond(tuple(objects))

        def do_GET(self) -> None:
            seen.searches.append(self.path)
            self._respond(())

        def _respond(self, uids: tuple[str, ...]) -> None:
            seen.authorizations.append(self.headers["Authorization"])
            given = answer(uids)
            if given is None:
                ended.wait(60)
                self.close_connection = True
                return
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers["Transfer-Encoding"] != "chunked":
        return request.rfile.read(int(request.headers["Content-Length"]))
    content = b""
    while size := int(request.rfile.readline(), 16):
        content += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return content


def _item(uid: str) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00081155": {"vr": "UI", "Value": [uid]},
    }


def _parts(body: bytes, content_type: str) -> dict[str, bytes]:
    """Return the objects of a multipart body by SOP Instance UID."""
    boundary = content_type.encode().split(_BOUNDARY)[1].strip(b'"')
    found = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        content = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        dataset = dcmread(BytesIO(content), stop_before_pixels=True)
        found[str(dataset.SOPInstanceUID)] = content
    return found
