"""What ``pellucid status`` tells of the store: how full it is, and what is deleted next."""

from node.config import StorageSettings
from node.retention import Outlook


def row(stands: Outlook, settings: StorageSettings) -> dict[str, object]:
    """Return the store in one row."""
    return {
        "used": f"{stands.usage.used_percent:.0f} %",
        "free": f"{stands.usage.free_bytes / 1e9:.1f} GB",
        "floor": f"{settings.reserve_gb:g} GB",
        "watermark": f"{settings.watermark_percent:g} %",
        "kept": f"{settings.retention_days:g} days",
        "may_go_now": _studies(stands.due),
        "may_go_if_full": _studies(stands.younger),
        "next": "" if stands.first is None else _first(stands),
    }


def complaints(stands: Outlook, settings: StorageSettings) -> list[dict[str, object]]:
    """Return the alarm: too full, and nothing may be deleted."""
    if stands.usage.used_percent <= settings.watermark_percent or stands.first is not None:
        return []
    return [
        {
            "kind": "store",
            "id": "",
            "name": "",
            "state": "full",
            "since": "",
            "what happened": f"{stands.usage.used_percent:.0f} % used, and all of it is owed to "
            "someone or waits for a person",
            "what to do": "see to what waits, or give the store more room",
        }
    ]


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"


def _first(stands: Outlook) -> str:
    first = stands.first
    return "" if first is None else f"{first.study_instance_uid}, of {first.since:%Y-%m-%d %H:%M}"
