"""A real Orthanc on loopback: the PACS that tests send to and ask."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import peers

FORWARD_SCRIPT = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin['RequestOrigin'] == 'DicomProtocol' then SendToModality(instanceId, 'node') end
end
"""


@dataclass(frozen=True, kw_only=True)
class Orthanc:
    """A running Orthanc: where it listens, and what it holds."""

    dicom_port: int
    http_port: int
    ae_title: str
    log: Path

    def get(self, path: str) -> Any:
        """Return the JSON answer of the REST interface to a GET."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """Return the raw answer of the REST interface to a GET."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}{path}", timeout=60
        ) as answer:
            return answer.read()

    def store(self, content: bytes) -> None:
        """Hand over one DICOM file."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/instances", data=content, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def instances(self) -> dict[str, dict[str, Any]]:
        """Return SOP Instance UID to Orthanc's simplified tags plus its own identifier."""
        found = {}
        for identifier in self.get("/instances"):
            tags = self.get(f"/instances/{identifier}/simplified-tags")
            found[tags["SOPInstanceUID"]] = {"orthanc_id": identifier} | tags
        return found

    def delete(self, sop_instance_uid: str) -> None:
        """Remove one instance, as a PACS that loses it."""
        identifier = self.instances()[sop_instance_uid]["orthanc_id"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/instances/{identifier}", method="DELETE"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def series(self) -> list[dict[str, Any]]:
        """Return every series: study and series UID, modality, description, Orthanc's instances."""
        studies = {one["ID"]: one["MainDicomTags"] for one in self.get("/studies?expand")}
        return [
            {
                "StudyInstanceUID": studies[one["ParentStudy"]]["StudyInstanceUID"],
                "Modality": one["MainDicomTags"].get("Modality", ""),
                "SeriesDescription": one["MainDicomTags"].get("SeriesDescription", ""),
                "orthanc_ids": one["Instances"],
            }
            for one in self.get("/series?expand")
        ]

    def save(self, folder: Path, *, modality: str | None = None) -> list[Path]:
        """Write every instance (of one modality) as ``<UID>.dcm`` and return the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for uid, tags in sorted(self.instances().items()):
            if modality is None or tags.get("Modality") == modality:
                path = folder / f"{uid}.dcm"
                path.write_bytes(self.get_bytes(f"/instances/{tags['orthanc_id']}/file"))
                paths.append(path)
        return paths


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(
    folder: Path,
    *,
    node_port: int | None = None,
    forward: bool = False,
    web: bool = False,
    more: Mapping[str, object] | None = None,
) -> Iterator[Orthanc]:
    """Run Orthanc in ``folder``; with ``forward`` it sends every new instance on to the node.

    With ``web`` it also answers DICOMweb, under ``/dicom-web``; ``more`` are further settings.
    """
    binary = peers.require("/usr/sbin/Orthanc", "apt-get install orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    dicom, http = free_port(), free_port()
    script = folder / "forward.lua"
    script.write_text(FORWARD_SCRIPT if forward else "")
    modalities = {"node": ["PELLUCID", "127.0.0.1", node_port]} if node_port else {}
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "MAINPACS",
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": modalities,
        "DicomAlwaysAllowStore": True,
        "OverwriteInstances": True,
        "LuaScripts": [str(script)],
        "StableAge": 1,
        "Plugins": [str(_dicomweb())] if web else [],
        **(more or {}),
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    log = folder / "orthanc.log"
    with log.open("wb") as output:
        process = subprocess.Popen([str(binary), str(config)], stdout=output, stderr=output)
    try:
        server = Orthanc(dicom_port=dicom, http_port=http, ae_title="MAINPACS", log=log)
        _wait_until_up(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _dicomweb() -> Path:
    return peers.require(
        "/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "apt-get install orthanc-dicomweb"
    )


def _wait_until_up(server: Orthanc, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Orthanc ended:\n{server.log.read_text()[-2000:]}")
        try:
            server.get("/system")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("Orthanc did not answer within 60 s")
