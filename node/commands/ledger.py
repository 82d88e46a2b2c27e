"""``pellucid ledger``: the copies that upgrades leave, and the way back."""

from dataclasses import dataclass
from pathlib import Path

from node.commands.output import FindingError, MisuseError
from node.config import Config
from node.ledger import backup, missed
from node.ledger.engine import ledger_file
from node.ledger.missed import Since
from node.ownership import only_node

_SERVED = (
    "the ledger is in PostgreSQL, which this program does not copy: restore what pg_dump has saved "
    "into a database of its own (createdb, pg_restore; docs/operations.md has the lines)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What a return to an earlier ledger means."""

    #: Which ledger that is, in words.
    copy: str
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


def looked_at(config: Config, database: str = "") -> Return:
    """Return what a return to the newest copy would mean, or to a database of the same server.

    Parameters
    ----------
    database
        Name of the one that holds a PostgreSQL ledger as it was; empty for SQLite.

    Raises
    ------
    FindingError
        There is no copy.
    MisuseError
        The name of a database is missing, or is that of the ledger itself, or the ledger is a file.
    LedgerError
        That database cannot be read, or holds no ledger.
    """
    if ledger_file(config.node.database) is None:
        return _served(config, database)
    if database:
        raise MisuseError(
            "the ledger is an SQLite file, whose copies lie beside it: leave out --from"
        )
    file = _file(config)
    newest = _newest(file)
    since = missed.since(config.node.database, f"sqlite:///{newest.path}")
    made = f"{newest.made:%Y-%m-%d %H:%M} UTC"
    return _return(config, copy=f"revision {newest.revision}, as of {made}", since=since)


def words(way: Return) -> list[str]:
    """Return in sentences what would be lost from sight, and what to do about it."""
    since = way.since
    said = [f"back to {way.copy}"]
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


def restore(config: Config, database: str = "") -> tuple[Return, str]:
    """Go back to an earlier ledger; return what it means, and what is to be done now.

    A file is put in the place of the ledger. On a server both stay as they are: which of them is
    the ledger, the configuration says.

    Raises
    ------
    DataFolderInUseError
        The node runs.
    """
    with only_node(config.node.data):
        way = looked_at(config, database)
        if way.since.received:
            # First: the earlier version deletes files that its ledger does not know.
            missed.set_apart(way.since.received, way.folder)
        if database:
            address = missed.shown(missed.in_database(config.node.database, database))
            return way, f'set node.database to "{address}", and start the earlier version'
        file = _file(config)
        replaced = backup.restore(file, _newest(file))
        return way, (f"restored; the ledger of before is {replaced}; now start the earlier version")


def _served(config: Config, database: str) -> Return:
    if not database:
        raise MisuseError(f"{_SERVED}, then: pellucid ledger restore --from DATABASE")
    copy = missed.in_database(config.node.database, database)
    if copy == config.node.database:
        raise MisuseError(
            f"{database!r} is the ledger itself: name the database with the earlier one"
        )
    since = missed.since(config.node.database, copy)
    said = f"revision {since.revision}, as in {missed.shown(copy)}"
    return _return(config, copy=said, since=since)


def _return(config: Config, *, copy: str, since: Since) -> Return:
    folder = config.node.data / f"received-after-{since.revision}"
    return Return(copy=copy, since=since, folder=folder)


def _newest(file: Path) -> backup.LedgerCopy:
    found = backup.copies(file)
    if not found:
        raise FindingError(f"there is no copy beside {file}: it was never brought up to date")
    return found[0]


def _file(config: Config) -> Path:
    file = ledger_file(config.node.database)
    if file is None:
        raise MisuseError(f"{_SERVED}, and then restore --from it")
    if not file.exists():
        raise MisuseError(f"there is no ledger {file}")
    return file
