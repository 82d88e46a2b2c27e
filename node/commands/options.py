"""Options that several commands share."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="PELLUCID_CONFIG",
        metavar="DIR",
        help="Folder of node.toml, routes.toml, models/. Default: ./config if it has a node.toml, "
        "else built-in settings.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
TitleOption = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="AETITLE", help="Call under this AE title instead of the node's own."
    ),
]


class Retriable(StrEnum):
    """What a person can have tried again."""

    TASK = "task"
    DELIVERY = "delivery"
    #: All deliveries to one peer that wait for a person.
    DESTINATION = "destination"


class Reason(StrEnum):
    """Why results are withdrawn; it decides what a PACS does with them (PS3.16 CID 7011)."""

    QUALITY = "quality"
    SAFETY = "safety"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which results are to be withdrawn: of a study, of a model, or of both."""

    study: str | None = None
    model: str | None = None
    version: str | None = None
