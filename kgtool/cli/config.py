"""Print a configuration, each setting with its description."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kgtool.cli.app import TRAIN, Columns, Data, Minutes, chosen_settings, command, reading_of
from kgtool.errors import ConfigError, harmless


@command(
    "config families",
    "config --defaults",
    "config --data my-graph.csv --minutes 30 > my-graph.toml",
    panel=TRAIN,
    name="config",
    long=False,
)
def config_command(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A preset, such as families, or a TOML file, such as a run's config.toml.",
            show_default=False,
        ),
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Print every setting with its default.")
    ] = False,
    data: Data = None,
    columns: Columns = None,
    minutes: Minutes = None,
) -> None:
    """Print a configuration as TOML, each setting with its description.

    With --data, the settings are chosen for these data, and each has its reason.

    The output is a configuration too: save it, change it, and pass it to kgtool train.
    """
    from kgtool.config import Config, load_config

    if (name is not None) + defaults + (data is not None) != 1:
        raise ConfigError(
            "kgtool config takes one of three: a configuration, --defaults, or --data. Remedy: "
            "pass one"
        )
    if minutes is not None and data is None:
        raise ConfigError("--minutes goes with --data. Remedy: leave it out, or pass --data")
    if data is not None:
        from kgtool.data.loaders import load_dataset
        from kgtool.data.loaders.column_order import check_columns

        dataset = load_dataset(data, reading=reading_of(columns=columns))
        check_columns(dataset)
        found = chosen_settings(dataset, minutes, [f"data={json.dumps(str(data))}"])
        typer.echo(harmless(found.to_toml()), nl=False)
        return
    text = (Config() if name is None else load_config(name)).to_toml(comments=True)
    typer.echo(harmless(text), nl=False)
