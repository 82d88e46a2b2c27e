"""``pellucid demo``: plays the main job in an empty folder, and says whether it went well."""

import shutil
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from node.commands.output import MisuseError, print_table, progress_bar
from node.demo.judge import (
    Judgement,
    explanation_rows,
    finding_rows,
    judge,
    object_rows,
    stage_rows,
)
from node.demo.montage import draw_montage
from node.demo.play import DemoError, Played, Report, play
from node.demo.stage import Stage


def run_demo(out: Path, stage: Stage) -> int:
    """Play ``stage``, print what came of it, leave objects and a picture in ``out``.

    Returns
    -------
    int
        Exit status: 0 if every promise was kept, else 1.

    Raises
    ------
    MisuseError
        ``out`` cannot be written.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="pellucid-demo-") as name:
        folder = Path(name)
        try:
            with progress_bar() as bar:
                played = play(stage, folder, report=_reporter(bar))
        except DemoError as error:
            console.print(f"[red]The demo failed:[/red] {error}", highlight=False)
            return 1
        judgement = judge(played, stage.phantom, explainers=len(stage.explain))
        picture = _keep(out, played, judgement, stage)
    _print(console, played, judgement)
    console.print(f"Objects: {out / 'pacs'}\nPicture: {picture}", soft_wrap=True, highlight=False)
    return 0 if judgement.passed else 1


def _reporter(bar: Progress) -> Report:
    """Return a function that moves one line of the progress display."""
    line = bar.add_task("starting", total=None, detail="")

    def report(what: str, share: float | None) -> None:
        total = None if share is None else 1.0
        bar.update(line, description=what, total=total, completed=share or 0.0)

    return report


def _keep(out: Path, played: Played, judgement: Judgement, stage: Stage) -> Path:
    """Copy what the PACS and the modality held to ``out``; return the path of the picture."""
    picture = out / "montage.png"
    try:
        for source in (played.pacs, played.study):
            kept = out / source.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(source, kept)
        draw_montage(stage.phantom, judgement.results, picture)
    except OSError as error:
        raise MisuseError(f"cannot write to {str(out)!r}: {error.strerror}") from error
    return picture


def _print(console: Console, played: Played, judgement: Judgement) -> None:
    print_table("In the PACS", object_rows(judgement.results), empty="The PACS holds nothing.")
    if judgement.report is not None:
        print_table("Findings", finding_rows(judgement.report), empty="The report has no finding.")
    print_table("Explanations", explanation_rows(judgement), empty="No explanation was reported.")
    print_table("Time", stage_rows(played.seconds), empty="")
    for check in judgement.checks:
        mark = "[green]kept  [/green]" if check.kept else "[red]BROKEN[/red]"
        console.print(f"{mark} {check.name}: {check.seen}", highlight=False, soft_wrap=True)
