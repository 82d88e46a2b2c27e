"""``pellucid explainers``: its command line; it calls functions elsewhere and prints."""

from pathlib import Path
from typing import Annotated

import typer

from node.commands.options import ConfigOption, JsonOption


def explainers(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One method, in full. All by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tell what each costs on this model.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A MONAI bundle, instead of --model.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="AxBxC", help="Image that the network sees, as 96x96x96.")
    ] = None,
    *,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the bundle run its own configuration.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the methods of explanation: what each shows, needs and costs, and its parameters.

    Exit status 1 if a method does not load.

    Examples
    --------
      [bold]pellucid explainers[/bold]

      [bold]pellucid explainers layer_cam[/bold]

      [bold]pellucid explainers --model phantom --size 96x96x96[/bold]
    """
    from node.commands import explainers as command
    from node.commands.analyze import chosen_model
    from node.commands.output import FindingError, print_json, print_table, print_text
    from node.commands.setting import configuration

    chosen = command.chosen_names(name)
    setting = None
    if model is not None or bundle is not None:
        known = configuration(config).models
        setting = command.setting_of(chosen_model(model, bundle, known, trusted=trust), size)
    found = command.described_explainers(chosen, setting)
    if as_json:
        print_json([command.as_json(each) for each in found])
    elif name is None:
        where = f" on {model or bundle}, {size}" if setting else ""
        print_table(f"Explainers{where}", command.explainer_rows(found), empty="no explainers")
    else:
        print_text(command.detail_text(found[0]))
        print_table("Parameters", command.parameter_rows(found[0]), empty="It has no parameters.")
    if broken := command.broken_text(found):
        raise FindingError(broken)
