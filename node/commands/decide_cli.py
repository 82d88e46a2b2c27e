"""``pellucid retry``, ``cancel``, ``dismiss`` and ``quarantine`` on the command line."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from node.commands.options import ConfigOption, JsonOption, Retriable

KindArgument = Annotated[Retriable, typer.Argument(help="What waits.")]
WhichArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Its id, as status tells it; a destination's name.")
]
TaskOrStudy = Annotated[
    str, typer.Argument(metavar="TASK|STUDY", help="Number of a task, or Study Instance UID.")
]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why; the audit keeps it.")]

quarantine_app = typer.Typer(
    no_args_is_help=True, help="What is set aside: studies of two patients, tasks that kill."
)


def retry(kind: KindArgument, which: WhichArgument, config: ConfigOption = None) -> None:
    """Have what waits for a person tried again, with fresh attempts; or a waiting delivery now.

    With destination, all deliveries that are parked for a peer.

    Works beside a running node. Remove the cause first.

    Examples: [bold]pellucid retry task 12[/bold], [bold]pellucid retry delivery 40[/bold],
    [bold]pellucid retry destination pacs[/bold]
    """
    from node.commands import decide
    from node.commands.setting import configuration

    what = decide.retry(configuration(config), kind, which, datetime.now(UTC))
    typer.echo(f"{what}: tried again by the running node, or by the next one")


def cancel(which: TaskOrStudy, *, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Cancel a task that is ready or running, or all of a study.

    What a running one computes is stopped within a quarter of a minute, and its result dropped.
    Destinations are not told. Works beside a running node.

    Examples: [bold]pellucid cancel 12[/bold], [bold]pellucid cancel 1.2.840.1.2.3[/bold]
    """
    from node.commands import decide
    from node.commands.setting import configuration

    typer.echo(decide.cancel(configuration(config), which, reason, datetime.now(UTC)))


def dismiss(
    kind: KindArgument,
    which: WhichArgument,
    *,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Give up what waits for a person and nobody will mend; its study may be deleted then.

    A task is cancelled, a parked or refused delivery is never sent. With destination, all
    deliveries that are parked for a peer or that it refused.

    Example: [bold]pellucid dismiss delivery 40 --reason "sent by hand"[/bold]
    """
    from node.commands import decide
    from node.commands.setting import configuration

    what = decide.dismiss(configuration(config), kind, which, reason, datetime.now(UTC))
    typer.echo(f"{what}: given up")


@quarantine_app.command("list")
def list_quarantined(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the studies that two patients claim, and the tasks that ended their process twice.

    Example: [bold]pellucid quarantine list[/bold]
    """
    from node.commands import decide
    from node.commands.output import print_json, print_table
    from node.commands.setting import configuration

    rows = decide.set_aside(configuration(config))
    if as_json:
        print_json(rows)
    else:
        print_table("Quarantined", rows, empty="nothing is quarantined")
    raise typer.Exit(1 if rows else 0)


@quarantine_app.command()
def release(which: TaskOrStudy, *, reason: ReasonOption, config: ConfigOption = None) -> None:
    """Let a study or a task go on that was set aside.

    Of a study what came first counts; what contradicted it stays apart and is never analyzed. Its
    tasks that were stopped are begun anew, and what was still owed is sent.

    Example: [bold]pellucid quarantine release 1.2.840.1.2.3 --reason "ID mended in the RIS"[/bold]
    """
    from node.commands import decide
    from node.commands.setting import configuration

    typer.echo(decide.release(configuration(config), which, reason, datetime.now(UTC)))
