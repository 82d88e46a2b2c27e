"""Images that were kept although they do not conform, in words for ``pellucid status``."""

from node.ledger.engine import Engine
from node.ledger.nonconformance import Damaged, damaged

Row = dict[str, object]

_ADVICE = "no route runs on it: have its sender mend it and send it again"


def of_node(engine: Engine) -> list[Row]:
    """Return one row for each series that such images are in."""
    return [{"study": each.study_instance_uid, **_row(each)} for each in damaged(engine)]


def of_study(engine: Engine, study_instance_uid: str) -> list[Row]:
    """Return one row for each such series of a study."""
    return [_row(each) for each in damaged(engine, study_instance_uid)]


def _row(found: Damaged) -> Row:
    return {
        "series": found.series_instance_uid,
        "images": found.images,
        "since": found.since.isoformat(timespec="seconds"),
        "what happened": found.reason,
        "what to do": _ADVICE,
    }
