"""The viewer bench: a PACS that answers DICOMweb, the viewer before it, and studies in it."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.filewriter import dcmwrite

from tests.browser.ohif import dist
from tests.browser.origin import origin
from tests.browser.studies import Study, source_datasets, study_of
from tests.browser.viewer import Viewer, viewer
from tests.orthanc import Orthanc, orthanc

#: What is made of every study.
RESULTS = (
    *("segmentation", "bands", "bands_placed", "overlay", "parametric_map"),
    *("measurements", "report"),
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """PACS and viewer, running."""

    folder: Path
    pacs: Orthanc
    viewer: Viewer
    _studies: dict[str, Study] = field(default_factory=dict)

    def study(self, kind: str) -> Study:
        """Return the study of this kind, made and stored when it is first asked for."""
        if kind not in self._studies:
            datasets = source_datasets(kind, f"bench {kind}")
            study = study_of(self.folder / kind.replace(" ", "-"), datasets, RESULTS)
            self.store(study)
            self._studies[kind] = study
        return self._studies[kind]

    def opened(self, kind: str) -> Study:
        """Return the study of this kind, open in the viewer."""
        study = self.study(kind)
        self.viewer.open(study.uid)
        return study

    def store(self, study: Study) -> None:
        """Hand every object of a study to the PACS."""
        for dataset in (*study.images, *(each for made in study.results.values() for each in made)):
            stream = io.BytesIO()
            dcmwrite(stream, dataset, enforce_file_format=True)
            self.pacs.store(stream.getvalue())


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Run Orthanc, the viewer's origin and Chromium; skips with a reason if one is absent."""
    pages = dist()
    with (
        orthanc(folder / "pacs", web=True) as pacs,
        origin(pages, pacs.http_port) as address,
        viewer(address, folder / "profile") as page,
    ):
        yield Bench(folder=folder, pacs=pacs, viewer=page)
