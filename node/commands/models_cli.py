"""``pellucid models``: its commands; each calls a function elsewhere and prints."""

from pathlib import Path
from typing import Annotated

import typer

from node.commands.options import ConfigOption, JsonOption

models_app = typer.Typer(no_args_is_help=True, help="List, add and verify models.")


@models_app.command("list")
def models_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the models of the configuration.

    Example: [bold]pellucid models list[/bold]
    """
    from node.commands.models import model_rows
    from node.commands.output import print_json, print_table
    from node.commands.setting import configuration

    rows = model_rows(configuration(config))
    if as_json:
        print_json(rows)
    else:
        print_table("Models", rows, empty="no models")


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of a model.")], config: ConfigOption = None
) -> None:
    """Print all that the configuration says of a model, as JSON.

    Example: [bold]pellucid models show phantom[/bold]
    """
    from node.commands.models import described_model
    from node.commands.output import print_json
    from node.commands.setting import configuration, named_model

    print_json(described_model(named_model(name, configuration(config).models)))


@models_app.command("add")
def models_add(
    bundle: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a MONAI bundle.")],
    config: ConfigOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="What routes call it. Default: the name of the bundle's folder."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Its explainer card: take over what that proposes."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Write trusted = true: you have read its configs.")
    ] = False,
) -> None:
    """Write models/NAME.toml for a MONAI bundle, with the sha256 of every file.

    Runs nothing of the bundle. Review the file that it writes.

    Example: [bold]pellucid models add /models/brain_meshnet3 --config /etc/pellucid[/bold]
    """
    from node.commands.models import add_model
    from node.commands.setting import config_folder

    folder = config_folder(config) or Path("config")
    file = add_model(bundle, folder, name=name, trusted=trust, card=card)
    typer.echo(f"wrote {file}: review it, then run pellucid check")


@models_app.command("verify")
def models_verify(
    name: Annotated[str | None, typer.Argument(help="Name of a model; all by default.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every file of the models against its sha256, and load them.

    Example: [bold]pellucid models verify[/bold]
    """
    from node.commands.models import verification_rows
    from node.commands.output import print_json, print_table
    from node.commands.setting import configuration, named_model

    models = configuration(config).models
    rows = verification_rows({name: named_model(name, models)} if name else models)
    if as_json:
        print_json(rows)
    else:
        print_table("Models", rows, empty="no models")
    raise typer.Exit(0 if all(row["loads"] for row in rows) else 1)
