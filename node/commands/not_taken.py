"""What destinations do not take, in words for ``pellucid status``."""

from collections.abc import Iterator

from dicom_io.encode.kinds import KINDS
from dicom_io.sop_classes import sop_class_name
from node.config import Config, Route
from node.ledger import accepted, audit
from node.ledger.accepted import Accepted
from node.ledger.engine import Engine
from node.routing import SENDER
from node.shares import refused_results, shares_of

Row = dict[str, object]

_EVENTS = ("result_not_taken", "result_sent_instead")


def of_node(engine: Engine, config: Config) -> list[Row]:
    """Return one row for each destination and result that it was found not to take."""
    known = accepted.known(engine, list(config.peers))
    found: dict[tuple[str, str], Row] = {}
    for route in config.routes:
        shares = shares_of(engine, config, route, list(_destinations(route, config)))
        for each in refused_results(shares):
            found[each.destination, each.result] = {
                "to": each.destination,
                "does_not_take": _named(each.result),
                "gets_instead": each.instead or _nothing(each.result),
                "asked": _asked(known[each.destination]),
            }
    return list(found.values())


def of_study(engine: Engine, study_instance_uid: str) -> list[Row]:
    """Return one row for each result of a study that a destination did not take."""
    return [
        {
            "task": entry.detail["task"],
            "to": entry.actor,
            "does_not_take": _named(str(entry.detail["result"])),
            "got_instead": entry.detail["instead"] or _nothing(str(entry.detail["result"])),
        }
        for entry in audit.of_study(engine, study_instance_uid, _EVENTS)
    ]


def _asked(known: Accepted) -> str:
    return "is asked again soon" if known.doubted else known.learnt.isoformat(timespec="seconds")


def _destinations(route: Route, config: Config) -> Iterator[str]:
    if SENDER in route.send_to:
        yield from config.peers
    else:
        yield from (name for name in route.send_to if name in config.peers)


def _named(result: str) -> str:
    classes = ", ".join(sop_class_name(uid) for uid in KINDS.get(result, ()))
    return f"{result} ({classes})" if classes else result


def _nothing(result: str) -> str:
    return f"nothing: allow {_classes(result)} at the destination"


def _classes(result: str) -> str:
    return ", ".join(KINDS.get(result, ())) or result
