"""Builders of configuration folders and of the values of a route."""

from datetime import UTC, datetime
from pathlib import Path

from dicom_io.select import ANY_IMAGE
from dicom_io.study import Instance, Series, Study
from node.config import Peer, Route, Step
from node.task import Reception

NODE = """
[node]
ae_title = "PELLUCID"
port = 11112
data = "data"
[site]
institution = "General Hospital"
device_serial_number = "7"
[peers]
pacs = ["MAINPACS", "10.1.2.3", 104]
[peers.ct1]
ae_title = "CT1"
host = "ct1.hospital.example"
port = 4006
"""
ROUTES = """
[[route]]
name = "head"
called = ["PELLUCID"]
from = ["ct1"]
when = "tags.Modality == 'MR'"
select = [{ name = "t1", Modality = "MR", SliceThickness = [0.5, 2.0], ImageType = ["!LOCALIZER"] }]
complete = { quiet_seconds = 5 }
priority = "urgent"
model = "tissue"
explain = ["layer_cam", { method = "occlusion", window = 8, of = ["White matter"] }]
budget = { forwards = 500, memory_gb = 8, minutes = 20 }
gate = { on_fail = "withhold", limits = { residual = 0.01 } }
results = ["report", "bands"]
send_to = ["pacs", "@sender"]
mode = "clinical"
contact = "ai@hospital.example"
"""
MODEL = """
[model]
name = "tissue"
bundle = "../bundle"
trusted = true
[model.sha256]
"models/model.pt" = "{digest}"
[model.intended_use]
modality = ["MR"]
age_years = [18, 99]
[model.labels]
1 = {{ meaning = "White matter", code = "68523003", scheme = "SCT" }}
[model.operating_point]
threshold = 0.4
temperature = 1.5
""".format(digest="ab" * 32)


def write_config(
    folder: Path, *, node: str = NODE, routes: str = ROUTES, model: str = MODEL
) -> Path:
    """Write a configuration folder beside the folder of its bundle, and return it."""
    (folder / "bundle").mkdir(parents=True)
    config = folder / "config"
    (config / "models").mkdir(parents=True)
    (config / "node.toml").write_text(node)
    (config / "routes.toml").write_text(routes)
    (config / "models" / "tissue.toml").write_text(
        model.replace("../bundle", str(folder / "bundle"))
    )
    return config


def make_route(**changes) -> Route:
    """Return a route of the phantom's model that takes any one image."""
    values = {
        "name": "head",
        "steps": (Step(model="phantom"),),
        "select": (ANY_IMAGE,),
        "results": ("report",),
        "send_to": ("pacs",),
    }
    return Route(**{**values, **changes})


def make_peer(name: str, ae_title: str, host: str = "10.0.0.1") -> Peer:
    """Return a peer."""
    return Peer(name=name, ae_title=ae_title, host=host, port=104)


def make_reception(called="PELLUCID", calling="CT1", address="10.0.0.1", at=None) -> Reception:
    """Return an arrival."""
    at = at or datetime(2026, 1, 2, tzinfo=UTC)
    return Reception(called_ae=called, calling_ae=calling, address=address, at=at)


def make_study(*series_tags: dict[str, str]) -> Study:
    """Return a study with one series of two MR images for each mapping of tags."""
    series = tuple(
        Series(
            series_instance_uid=f"1.2.{number}",
            instances=tuple(
                Instance(
                    study_instance_uid="1.2",
                    series_instance_uid=f"1.2.{number}",
                    sop_instance_uid=f"1.2.{number}.{index}",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    path=Path(f"{number}-{index}.dcm"),
                    patient_id="P",
                    tags={"Modality": "MR", **tags},
                )
                for index in (1, 2)
            ),
        )
        for number, tags in enumerate(series_tags, start=1)
    )
    return Study(study_instance_uid="1.2", series=series)
