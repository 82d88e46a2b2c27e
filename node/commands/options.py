"""Options that several commands share."""

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
