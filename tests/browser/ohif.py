"""The OHIF viewer as its npm package ships it: fetched once, checked, unpacked under ``build/``."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests import peers

VERSION = "3.12.10"
#: Subresource integrity of the package, as the registry states it.
SHA512 = "0kuF66Mq9c9dMD++bUsTjMrJpXJwaZhz9B4uS244DawAjSkTwIYFU93pxPuRUQixaRi7QAHlF3Fe1qudBlZrmA=="
CACHE = Path(__file__).parents[2] / "build" / "ohif"

#: What the pages load at start; settings without which a study opens empty or not at all.
CONFIG = {
    "name": "bench",
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "orthanc",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "orthanc",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "wadoUriRoot": "/dicom-web",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "qidoSupportsIncludeField": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
            },
        }
    ],
}


def app_config() -> bytes:
    """Return the script in which the viewer looks for its settings."""
    return f"window.config = {json.dumps(CONFIG)};".encode()


def dist() -> Path:
    """Return the folder of the viewer's pages, fetching the package if it is not here yet.

    Skips, or fails where nothing may be skipped, if npm is absent or its registry is not reached.
    """
    folder = CACHE / VERSION
    if not (folder / "index.html").exists():
        npm = peers.require("npm", "install Debian's npm, which fetches the OHIF viewer")
        CACHE.mkdir(parents=True, exist_ok=True)
        archive = _fetched(npm)
        _require_intact(archive)
        _unpack(archive, folder)
        archive.unlink()
    return folder


def _fetched(npm: Path) -> Path:
    ran = subprocess.run(
        [npm, "pack", f"@ohif/app@{VERSION}", "--silent", "--pack-destination", CACHE],
        cwd=CACHE,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if ran.returncode != 0:
        peers.absent(f"npm could not fetch the OHIF viewer {VERSION}: {ran.stderr.strip()[-300:]}")
    return CACHE / ran.stdout.split()[-1]


def _require_intact(archive: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != SHA512:
        archive.unlink()
        raise RuntimeError(f"{archive.name} is not the package that was asked for: {digest}")


def _unpack(archive: Path, folder: Path) -> None:
    # Unpacked beside its place, so that what has the right name is whole.
    partial = CACHE / f"{VERSION}.{os.getpid()}.part"
    with tarfile.open(archive) as package:
        package.extractall(partial, filter="data")
    if not folder.exists():
        (partial / "package" / "dist").rename(folder)
    shutil.rmtree(partial)
