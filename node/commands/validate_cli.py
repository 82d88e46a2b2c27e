"""``pellucid validate``: its command line; it calls functions elsewhere and prints."""

from pathlib import Path
from typing import Annotated

import typer

from node.commands.options import ConfigOption, JsonOption

TruthOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="What is true of them: DICOM SEG, SR with regions, NIfTI named after the series, "
        "truth.csv with case,label,0 or 1.",
    ),
]
ExplainersOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METHODS",
        help="Explainers to try, as layer_cam,lrp or layer_cam:depth=0.75; repeat for more. "
        "Default: the cheap ones that the network allows.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the card goes. Default: card-MODEL.")
]


def validate(
    model: Annotated[
        str, typer.Argument(help="A configured model, phantom, or the folder of a MONAI bundle.")
    ],
    *,
    data: Annotated[Path, typer.Option(metavar="DIR", help="DICOM files of known cases.")],
    truth: TruthOption = None,
    out: OutOption = None,
    explainers: ExplainersOption = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    curve_cases: Annotated[int, typer.Option(min=0, help="Cases of which curves are drawn.")] = 12,
    randomize: Annotated[
        int, typer.Option(min=0, help="Cases on which the network is made to forget.")
    ] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what takes no pass beyond the explanation.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the bundle run its own configuration.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the explainer card of a model: how right it is, and which heatmaps can be trusted.

    Each case is predicted, explained by every method beside maps that know nothing of the model,
    and measured. The card is one page (card.html), its figures (card.json), and what is proposed
    for the model's file (card.toml). Interrupt it and run it again: it goes on where it stopped.
    Exit status 1 if a case could not be used; the card is written all the same.

    Examples
    --------
      [bold]pellucid validate phantom --data phantoms --truth truths[/bold]

      [bold]pellucid validate /models/brain_meshnet3 --trust --data heads --truth masks --quick
      --explainers layer_cam[/bold]
    """
    from node.commands import validate as command
    from node.commands.output import print_json
    from node.commands.setting import configuration

    settings = command.model_settings(model, configuration(config), trusted=trust)
    wanted = command.Wanted(
        model=settings,
        data=data,
        truth=truth,
        out=out or Path(f"card-{settings.name}"),
        explainers=tuple(explainers or ()),
        seed=seed,
        curve_cases=curve_cases,
        randomized_cases=randomize,
        quick=quick,
    )
    card = command.validate(wanted)
    if as_json:
        from ai.card.document import as_document

        print_json(as_document(card))
    else:
        command.print_card(card, wanted.out)
    command.require_all_used(card)
