"""What a worker orders from its inference child, and how that travels as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dicom_io.origin import Origin
from dicom_io.prior import Priors
from dicom_io.study import Study
from node.config import Plan, plan_from_json, plan_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One task as the child sees it: it knows no ledger, no store and no configuration."""

    study: Study
    origin: Origin
    plan: Plan
    #: Folder of this task alone, where the child writes its objects.
    folder: Path
    #: None: the route compares with nothing earlier.
    priors: Priors | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an order."""

    #: Files that the child has written, in the order in which they should be sent.
    files: tuple[Path, ...]
    #: Name of the result that each file is; empty if the child does not tell.
    results: tuple[str, ...] = ()
    #: Stage to wall-clock seconds, in the order of the stages.
    seconds: Mapping[str, float]
    #: One sentence for each explanation that could not be made.
    failures: tuple[str, ...] = ()
    #: One sentence for each that was made: its grade, and every number with limit and verdict.
    explained: tuple[str, ...] = ()


def order_to_message(order: Order) -> dict[str, Any]:
    """Return the order as values that JSON knows."""
    return {
        "study": TypeAdapter(Study).dump_python(order.study, mode="json"),
        "origin": TypeAdapter(Origin).dump_python(order.origin, mode="json"),
        "plan": plan_to_json(order.plan),
        "folder": str(order.folder),
        "priors": TypeAdapter(Priors | None).dump_python(order.priors, mode="json"),
    }


def order_from_message(message: Mapping[str, Any]) -> Order:
    """Return the order that ``order_to_message`` wrote."""
    return Order(
        study=TypeAdapter(Study).validate_python(message["study"]),
        origin=TypeAdapter(Origin).validate_python(message["origin"]),
        plan=plan_from_json(message["plan"]),
        folder=Path(message["folder"]),
        priors=TypeAdapter(Priors | None).validate_python(message.get("priors")),
    )


def result_to_message(result: Result) -> dict[str, Any]:
    """Return the result as values that JSON knows."""
    return {
        "files": [str(file) for file in result.files],
        "results": list(result.results),
        "seconds": dict(result.seconds),
        "failures": list(result.failures),
        "explained": list(result.explained),
    }


def result_from_message(message: Mapping[str, Any]) -> Result:
    """Return the result that ``result_to_message`` wrote."""
    return TypeAdapter(Result).validate_python(
        {
            "files": message["files"],
            "results": message.get("results", ()),
            "seconds": message["seconds"],
            "failures": message.get("failures", ()),
            "explained": message.get("explained", ()),
        }
    )
