"""Print a configuration, each setting with its description."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import TRAIN, command
from kgtool.errors import ConfigError, harmless


@command("config families", "config --defaults", panel=TRAIN, name="config", long=False)
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
) -> None:
    """Print a configuration as TOML, each setting with its description.

    The output is a configuration too: save it, change it, and pass it to kgtool train.
    """
    from kgtool.config import Config, load_config

    if (name is None) != defaults:
        raise ConfigError(
            "kgtool config takes either a configuration or --defaults. Remedy: pass one"
        )
    text = (Config() if name is None else load_config(name)).to_toml(comments=True)
    typer.echo(harmless(text), nl=False)
