"""An authority of the test, and certificates that it has signed; made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers import require

#: What a certificate on loopback is for.
LOOPBACK = "DNS:localhost,IP:127.0.0.1"
_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key (PEM)."""

    cert: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Who signs certificates, in a folder of its own."""

    folder: Path

    @property
    def cert(self) -> Path:
        """Return its own certificate, which others trust."""
        return self.folder / "ca.pem"

    def sign(self, name: str, *, names: str = LOOPBACK, days: int = 2) -> Certificate:
        """Return a new certificate for ``names``; with days below 0 one that has expired."""
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        made = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        _openssl("req", *_KEY, *made, folder=self.folder)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem")
        how = ("-days", str(days), "-extfile", extensions.name)
        _openssl("x509", "-req", "-in", f"{name}.csr", *signed, *how, folder=self.folder)
        return Certificate(cert=self.folder / f"{name}.pem", key=self.folder / f"{name}.key")


def authority(folder: Path) -> Authority:
    """Return a new authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = ("-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN=Authority {folder.name}")
    _openssl("req", "-x509", *_KEY, "-days", "2", *made, folder=folder)
    return Authority(folder=folder)


def _openssl(*arguments: str, folder: Path) -> None:
    program = require("/usr/bin/openssl", "apt install openssl")
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)
