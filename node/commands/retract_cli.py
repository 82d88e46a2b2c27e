"""``pellucid retract`` on the command line."""

import sys
from typing import Annotated

import typer

from node.commands.options import Asked, ConfigOption, JsonOption, Reason


def retract(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Study Instance UID.")
    ] = None,
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Results of this model alone.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Of this version of it alone.")
    ] = None,
    reason: Annotated[
        Reason, typer.Option(help="What the note says; it decides what a PACS does.")
    ] = Reason.QUALITY,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be withdrawn, and nothing else.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw results: whoever has them gets a rejection note, the others never get them.

    The note is a Key Object Selection, as IHE's Imaging Object Change Management has it; many PACS
    hide what it names. Works beside a running node. Nothing is deleted here.

    Examples
    --------
      [bold]pellucid retract 1.2.840.1.2.3 --dry-run[/bold]

      [bold]pellucid retract --model nodule --version 1.2 --reason safety --yes[/bold]
    """
    from node.commands import retract as command
    from node.commands.output import counted, print_json, print_table, print_text
    from node.commands.setting import configuration

    settings = configuration(config)
    asked = Asked(study=study, model=model, version=version)
    objects = command.found(settings, asked)
    rows = command.rows(objects)
    if not as_json:
        print_table("Would be withdrawn" if dry_run else "To be withdrawn", rows, empty="nothing")
        print_text(command.at_work(settings, objects))
    if dry_run:
        if as_json:
            print_json({"withdrawn": False, "objects": rows})
        return
    _require_consent(yes=yes)
    count = command.retract(settings, asked, reason)
    if as_json:
        print_json({"withdrawn": True, "objects": rows})
        return
    typer.echo(
        f"withdrawn: {counted(count, 'object')}; the running node, or the next one, tells whoever "
        "has them"
    )


def _require_consent(*, yes: bool) -> None:
    from node.commands.output import MisuseError

    if yes:
        return
    if not sys.stdin.isatty():
        raise MisuseError("nothing is withdrawn: nobody is here to be asked, add --yes")
    typer.confirm("Withdraw them?", abort=True)
