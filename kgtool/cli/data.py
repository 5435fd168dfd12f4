"""Look at data, and fetch public data sets by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kgtool.cli.app import app, interactive

data = typer.Typer(help="Public data sets: list them, fetch them.", no_args_is_help=True)
app.add_typer(data, name="data")
Name = Annotated[str, typer.Argument(help="A name of kgtool data list.", show_default=False)]


@app.command()
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder, .zip or .tar.gz of triples; or a name of kgtool data list.",
            show_default=False,
        ),
    ],
) -> None:
    """Load a data set and print what it holds, and what is odd about it."""
    from kgtool.loaders import load_with_report

    Console().print(load_with_report(path)[1].render())


@data.command("list")
def list_data_sets() -> None:
    """List the data sets that are known by name.

    KGTOOL_REGISTRY, an environment variable, names a TOML file of more, in the form of
    kgtool/registry/data_sets.toml.
    """
    from kgtool.api import data_sets
    from kgtool.registry.cache import cache_folder
    from kgtool.terminal.data_sets import data_sets_table

    Console().print(data_sets_table(data_sets(), cache_folder()))


@data.command()
def info(name: Name) -> None:
    """Tell what a data set is, whom to cite, and where it comes from."""
    from kgtool.registry.cache import cached_file, is_fetched
    from kgtool.registry.entries import find_entry
    from kgtool.terminal.data_sets import data_set_list

    entry = find_entry(name)
    Console().print(data_set_list(entry, cached_file(entry), is_fetched(entry)))


@data.command()
def fetch(
    name: Name,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A mirror to fetch from; the checksum decides.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch a data set into the cache, if it is not there or is damaged.

    From then on its name stands for it wherever data are asked for. KGTOOL_CACHE, an environment
    variable, names another cache folder.
    """
    from kgtool.api import fetch as fetch_data_set

    typer.echo(f"{name} is {fetch_data_set(name, address, interactive())}")
