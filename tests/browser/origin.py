"""One origin for the browser: the viewer's files, and Orthanc's DICOMweb behind ``/dicom-web``."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.browser.ohif import app_config

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def __init__(self, *arguments, pacs_port: int, **keywords):
        self.pacs_port = pacs_port
        super().__init__(*arguments, **keywords)

    def log_message(self, *arguments):
        """Say nothing: a page asks for hundreds of files."""

    def do_GET(self):
        """Answer with a file of the viewer, the viewer's page, or what Orthanc says."""
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._forward()
        elif path == "/app-config.js":
            self._answer(200, {"Content-Type": "text/javascript"}, app_config())
        else:
            # The page finds its way by the address; files that do not exist are its routes.
            if not Path(self.translate_path(self.path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _forward(self):
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP
        }
        pacs = http.client.HTTPConnection("127.0.0.1", self.pacs_port, timeout=60)
        try:
            pacs.request("GET", self.path, headers=headers)
            answer = pacs.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            self._answer(answer.status, kept, answer.read())
        finally:
            pacs.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing of a browser that hung up: it does so whenever a page is left."""


@contextmanager
def origin(dist: Path, pacs_port: int) -> Iterator[str]:
    """Serve on a free loopback port until the block ends; yields the address."""
    handler = partial(_Handler, directory=str(dist), pacs_port=pacs_port)
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
