"""The command line: ``pellucid``. Every command calls a function elsewhere and prints."""

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from node.commands.decide_cli import cancel, dismiss, quarantine_app, retry
from node.commands.explainers_cli import explainers
from node.commands.ledger_cli import ledger_app
from node.commands.models_cli import models_app
from node.commands.options import ConfigOption, JsonOption, TitleOption
from node.commands.retract_cli import retract
from node.commands.validate_cli import validate
from node.log import LogStyle, configure_logging, safe_text, tell_thread_errors

app = typer.Typer(
    name="pellucid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""A DICOM node that makes imaging AI explain itself inside the PACS.

    A study goes in; findings and measured explanations come out as DICOM objects.

    Start with [bold]pellucid demo[/bold]: it needs no PACS and no configuration. Then
    [bold]pellucid analyze FOLDER --model phantom --out results[/bold] for files, or
    [bold]pellucid check[/bold] and [bold]pellucid run[/bold] for a node.

    Exit status: 0 done, 1 something is not as it should be, 2 asked in a wrong way.
    """,
)
app.add_typer(models_app, name="models")
app.command("explainers")(explainers)
app.command("retract")(retract)
app.command("retry")(retry)
app.command("cancel")(cancel)
app.command("dismiss")(dismiss)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(ledger_app, name="ledger")
app.command("validate")(validate)

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of DICOM files.")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: what is known to go wrong is one sentence."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app([word for word in given if word != "--debug"] if debug else given, prog_name="pellucid")
    except Exception as error:
        if debug:
            raise
        message, status = _explained(error)
        sys.stderr.write(f"pellucid: {message}\n")
        sys.exit(status)
    sys.exit(0)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pellucid {metadata.version('pellucid')}")
        raise typer.Exit


@app.callback()
def common(
    *,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Take the options that belong to every command; ``main`` itself sees to ``--debug``."""


@app.command()
def run(
    config: ConfigOption = None,
    *,
    log: Annotated[LogStyle, typer.Option(help="Who reads the log.")] = LogStyle.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the node: receive studies, analyze them, send results back.

    Stops cleanly on Ctrl-C or SIGTERM; nothing acknowledged is lost by any other way to stop.

    Example: [bold]pellucid run --config /etc/pellucid[/bold]
    """
    from node import service
    from node.commands.check import Mark, data_folder, listening
    from node.commands.setting import configuration

    configure_logging(logging.DEBUG if verbose else logging.INFO, style=log)
    settings = configuration(config)
    for line in listening(settings):
        typer.echo(line)
    data = data_folder(settings)
    if data.mark is Mark.PROBLEM:
        typer.echo(f"{data.thing}: {data.words}", err=True)

    def ready(port: int) -> None:
        typer.echo(f"ready: port {port}; Ctrl-C stops")

    tell_thread_errors()
    service.run(settings, ready=ready, log_style=log)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path(
        "demo-output"
    ),
) -> None:
    """Show the whole chain in under a minute: no PACS, no configuration, no patient.

    A phantom study with a known lesion is sent to a real node with a stand-in PACS behind it;
    what arrives there is listed, measured against the truth and drawn. Exit status 0 only if
    the lesion was found, the heatmap hits it and every object is sound.

    Example: [bold]pellucid demo[/bold]
    """
    from node.commands.demo import run_demo
    from node.demo.stage import default_stage

    raise typer.Exit(run_demo(out, default_stage()))


@app.command()
def analyze(
    folder: FolderArgument,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty folder for results.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A configured model, or phantom.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A MONAI bundle, instead of --model.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the bundle run its own configuration.")
    ] = False,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Explainer, as layer_cam or lrp:rule=gamma,of=Nodule; repeat for several; "
            "none for none.",
        ),
    ] = None,
    forwards: Annotated[
        int | None, typer.Option(min=1, help="Most forward passes of each explanation.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Which series, if several suit.")
    ] = None,
    arrays: Annotated[
        bool, typer.Option("--arrays", help="Also write image, masks, relevance as NIfTI.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyze one series of a folder and write DICOM objects and analysis.json.

    Needs no PACS, and for the model phantom no configuration.

    Examples
    --------
      [bold]pellucid analyze ct/ --model phantom --out results[/bold]

      [bold]pellucid analyze mr/ --bundle brain_meshnet3 --trust --out results --arrays[/bold]

      [bold]pellucid analyze mr/ -c config --model brain --explain layer_cam --explain occlusion
      --out results[/bold]
    """
    from node.commands import analyze as command
    from node.commands import results, setting, study_folder
    from node.commands.output import print_json

    settings = setting.configuration(config)
    chosen_model = command.chosen_model(model, bundle, settings.models, trusted=trust)
    wanted = command.Wanted(
        model=chosen_model,
        explain=command.explain_specs(explain or [], chosen_model),
        forwards=forwards,
    )
    found = study_folder.read_study_folder(folder)
    candidate = study_folder.chosen(
        study_folder.image_series(found.instances), series, chosen_model.intended_use.modality
    )
    with results.results_folder(out):
        outcome = command.analyze_series(candidate, wanted, settings)
        content = results.write(outcome, out, arrays=arrays)
    if as_json:
        print_json(content)
    else:
        results.print_outcome(outcome, found, out)


@app.command()
def check(
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the files, and nothing else.")
    ] = False,
) -> None:
    """Check the configuration, load every model, echo every peer, say what would listen.

    Every mistake in every file is told at once. Peers that do not answer are a warning.

    Example: [bold]pellucid check --config /etc/pellucid[/bold]
    """
    from node.commands import check as command
    from node.commands.output import print_json, print_table
    from node.commands.setting import configuration

    if schema:
        print_json(command.json_schemas())
        return
    settings = configuration(config)
    found = command.observe(settings)
    rows: list[dict[str, object]] = [
        {"thing": each.thing, "mark": str(each.mark), "words": each.words} for each in found
    ]
    if as_json:
        print_json({"observations": rows, "listening": command.listening(settings)})
    else:
        print_table("Check", rows, empty="nothing to check")
        for line in command.listening(settings):
            typer.echo(f"would listen: {line}")
    raise typer.Exit(1 if any(each.mark is command.Mark.PROBLEM for each in found) else 0)


@app.command()
def status(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Study Instance UID.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether the node runs, what it does, what waits for a person, and what to do.

    Exit status 1 if something waits for a person; a rejected study does not: nothing is wrong
    with the node.

    Examples: [bold]pellucid status[/bold], [bold]pellucid status 1.2.840.1.2.3 --json[/bold]
    """
    from node.commands import status as command
    from node.commands.output import print_json, print_table, print_text
    from node.commands.setting import configuration

    settings = configuration(config)
    if study is not None:
        content = command.study_status(settings, study, datetime.now(UTC))
        waits = command.waits_for_a_person(content)
        tables = {
            "Tasks": content["tasks"],
            "Deliveries": content["deliveries"],
            "Not taken": content["not_taken"],
            "Does not conform": content["does_not_conform"],
            "Waits for a destination": content["waiting"],
        }
        senders = ", ".join(content["received_from"]) or "nobody"
        words = [
            f"node: {content['node']}",
            f"study {study}: {content['state']}, from {senders}",
            content["what_to_do"],
        ]
    else:
        found = command.node_status(settings, datetime.now(UTC))
        waits, tables = found.waits, dict(found.tables)
        words = [f"node: {found.node}"]
        content = {"node": found.node, **tables}
    if as_json:
        print_json(content)
    else:
        print_text("\n".join(filter(None, words)))
        for title, rows in tables.items():
            nothing = "none: no route wants it, or not yet" if title == "Tasks" else "nothing"
            print_table(title, rows, empty=f"{title}: {nothing}")
    raise typer.Exit(1 if waits else 0)


@app.command()
def echo(
    peer: Annotated[str, typer.Argument(help="Name of a peer, or AETITLE@host:port.")],
    config: ConfigOption = None,
    title: TitleOption = None,
) -> None:
    """Ask a peer whether it answers (C-ECHO; a search by QIDO-RS where it has a url).

    Examples: [bold]pellucid echo pacs[/bold], [bold]pellucid echo ORTHANC@localhost:4242[/bold]
    """
    from node.commands.output import FindingError
    from node.commands.reach import reach
    from node.commands.setting import calling_title, configuration, named_peer

    settings = configuration(config)
    caller = calling_title(title, settings)
    answer = reach(named_peer(peer, settings.peers), calling_ae=caller)
    if not answer.ok:
        raise FindingError(answer.message)
    typer.echo(f"{answer.message} ({answer.seconds * 1000:.0f} ms)")


@app.command()
def send(
    folder: FolderArgument,
    peer: Annotated[str, typer.Argument(help="Name of a peer, or AETITLE@host:port.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    title: TitleOption = None,
) -> None:
    """Send every DICOM file of a folder to a peer (C-STORE).

    Examples: [bold]pellucid send results pacs[/bold],
    [bold]pellucid send ct/ PELLUCID@localhost:11112 --as MODALITY[/bold]
    """
    from node.commands.output import FindingError, counted, print_json, print_table
    from node.commands.send import accepted, answer_rows, send_folder
    from node.commands.setting import calling_title, configuration, named_peer

    settings = configuration(config)
    caller = calling_title(title, settings)
    sent = send_folder(folder, named_peer(peer, settings.peers), caller)
    rows = answer_rows(sent)
    if as_json:
        print_json(rows)
    else:
        print_table(f"Sent to {peer}", rows, empty="nothing")
    refused = sum(not accepted(answer) for answer in sent)
    if refused:
        raise FindingError(f"{peer} refused {refused} of {counted(len(sent), 'file')}")


#: Class names to exit status: what is known to go wrong, and says so in its message.
_MISUSE = frozenset({"MisuseError", "ConfigError"})
_KNOWN = frozenset(
    {
        "FindingError", "DicomInputError", "EncodingError", "UnsuitableInputError",
        "ModelUnavailableError", "ExplanationError", "LedgerError", "OSError", "NoContextError",
        "MemoryError", "OutOfMemoryError", "DataFolderInUseError", "ReceiverError",
    }
)  # fmt: skip


def _explained(error: Exception) -> tuple[str, int]:
    """Return what to say about an error, and the exit status."""
    from node.errors import class_names

    classes = set(class_names(error))
    if classes & _MISUSE:
        return _sentence(error), 2
    if classes & _KNOWN:
        return _sentence(error), 1
    told = safe_text(error)
    return f"a mistake of ours: {told}; run again with --debug and report what it shows", 1


def _sentence(error: Exception) -> str:
    from node.commands.output import counted
    from node.problems import InvalidConfigError

    if isinstance(error, InvalidConfigError):
        return f"the configuration has {counted(len(error.problems), 'mistake')}:\n{error}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main()
