"""``pellucid ledger`` on the command line."""

import sys
from typing import Annotated

import typer

from node.commands.options import ConfigOption, JsonOption

ledger_app = typer.Typer(no_args_is_help=True, help="Copies of the ledger, and the way back.")


@ledger_app.command("copies")
def list_copies(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the copies that upgrades have left, the newest first.

    Example: [bold]pellucid ledger copies[/bold]
    """
    from node.commands import ledger
    from node.commands.output import print_json, print_table
    from node.commands.setting import configuration

    rows = ledger.copies(configuration(config))
    if as_json:
        print_json(rows)
    else:
        print_table("Copies", rows, empty="there is no copy")


@ledger_app.command()
def restore(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would mean, and nothing else.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: Annotated[
        str, typer.Option("--from", help="PostgreSQL: the database with the earlier ledger.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Go back to the ledger as it was before the last upgrade; stop the node before.

    Tells what was received and delivered since, and keeps the files of what was received. The
    ledger that it replaces stays beside it. Start the earlier version afterwards. With PostgreSQL
    restore the dump into a database of its own and name that: the configuration will name it, too.

    Examples: [bold]pellucid ledger restore --dry-run[/bold],
    [bold]pellucid ledger restore --yes[/bold],
    [bold]pellucid ledger restore --from pellucid_before --yes[/bold]
    """
    from node.commands import ledger
    from node.commands.output import MisuseError, print_text
    from node.commands.setting import configuration

    settings = configuration(config)
    if dry_run:
        print_text("\n".join(ledger.words(ledger.looked_at(settings, database))))
        return
    if not yes:
        print_text("\n".join(ledger.words(ledger.looked_at(settings, database))))
        if not sys.stdin.isatty():
            raise MisuseError("nothing is restored: nobody is here to be asked, add --yes")
        typer.confirm("Restore it?", abort=True)
    way, then = ledger.restore(settings, database)
    print_text("\n".join([*ledger.words(way), then]))
