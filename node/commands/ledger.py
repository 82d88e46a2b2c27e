"""``pellucid ledger``: the copies that upgrades leave, and the way back."""

from dataclasses import dataclass
from pathlib import Path

from node.commands.output import FindingError, MisuseError
from node.config import Config
from node.ledger import backup
from node.ledger.backup import LedgerCopy, Since
from node.ledger.engine import ledger_file
from node.ownership import only_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What a return to the newest copy means."""

    copy: LedgerCopy
    since: Since
    #: Where the files are put that were received since.
    folder: Path


def copies(config: Config) -> list[dict[str, object]]:
    """Return one row for each copy, the newest first."""
    return [
        {
            "copy": str(each.path),
            "revision": each.revision,
            "made": each.made.isoformat(timespec="seconds"),
        }
        for each in backup.copies(_file(config))
    ]


def looked_at(config: Config) -> Return:
    """Return what a return to the newest copy would mean.

    Raises
    ------
    FindingError
        There is no copy.
    MisuseError
        The ledger is no SQLite file.
    """
    file = _file(config)
    found = backup.copies(file)
    if not found:
        raise FindingError(f"there is no copy beside {file}: it was never brought up to date")
    copy = found[0]
    folder = config.node.data / f"received-after-{copy.revision}"
    return Return(copy=copy, since=backup.since(file, copy), folder=folder)


def words(way: Return) -> list[str]:
    """Return in sentences what would be lost from sight, and what to do about it."""
    since = way.since
    said = [f"back to revision {way.copy.revision}, as of {way.copy.made:%Y-%m-%d %H:%M} UTC"]
    if since.received:
        said.append(
            f"received since: {len(since.received)} instances of {since.studies} studies, all "
            f"acknowledged; their files are put into {way.folder}: send them again"
        )
    if since.delivered:
        said.append(
            f"delivered since: {since.delivered} objects that the earlier version will not know; "
            "withdraw them before with pellucid retract if they must not stay"
        )
    if since.gone:
        said.append(f"deleted since, and missed by the copy: {len(since.gone)} files")
    return said


def restore(config: Config) -> tuple[Return, Path]:
    """Put the newest copy in the place of the ledger; return what it means, and the old ledger.

    Raises
    ------
    DataFolderInUseError
        The node runs.
    """
    with only_node(config.node.data):
        way = looked_at(config)
        if way.since.received:
            # First: the earlier version deletes files that its ledger does not know.
            backup.set_apart(way.since.received, way.folder)
        return way, backup.restore(_file(config), way.copy)


def _file(config: Config) -> Path:
    file = ledger_file(config.node.database)
    if file is None:
        raise MisuseError(
            "the ledger is in PostgreSQL: stop the node, then pg_restore --clean --if-exists "
            "--dbname=... ledger-REVISION.dump; docs/operations.md says the rest"
        )
    if not file.exists():
        raise MisuseError(f"there is no ledger {file}")
    return file
