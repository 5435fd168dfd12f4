"""Look at data, fetch public data sets by name, bring data into this tool's own shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import Columns, Delimiter, Format, Header, app, interactive, reading_of
from kgtool.cli.render.console import Terminal

data = typer.Typer(help="Public data sets: list them, fetch them.", no_args_is_help=True)
app.add_typer(data, name="data")
Name = Annotated[str, typer.Argument(help="A name of kgtool data list.", show_default=False)]
Place = Annotated[
    Path,
    typer.Argument(
        help="Folder or archive with train, valid and test in any format, or a data set of "
        "OpenKE, LibKGE or DGL-KE; or a name of kgtool data list.",
        show_default=False,
    ),
]


@app.command()
def inspect(
    path: Place,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
) -> None:
    """Load a data set and print what it holds, and what is odd about it."""
    from kgtool.data.loaders import load_with_report

    reading = reading_of(format, columns, delimiter, header)
    Terminal().print(load_with_report(path, reading=reading)[1].render())


@app.command()
def convert(
    path: Place,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
) -> None:
    """Write a data set as train.txt, valid.txt and test.txt, which need no options.

    Negatives go with them. A triple that occurs twice in a split is written once.
    """
    from kgtool.api import convert as convert_data

    report, files = convert_data(path, out, reading_of(format, columns, delimiter, header))
    Terminal().print(report.render())
    for file in files:
        typer.echo(f"Written to {file}")


@data.command("list")
def list_data_sets() -> None:
    """List the data sets that are known by name.

    KGTOOL_REGISTRY, an environment variable, names a TOML file of more, in the form of
    kgtool/registry/data_sets.toml.
    """
    from kgtool.api import data_sets
    from kgtool.cli.render.data_sets import data_sets_table
    from kgtool.data.registry.cache import cache_folder

    Terminal().print(data_sets_table(data_sets(), cache_folder()))


@data.command()
def info(name: Name) -> None:
    """Tell what a data set is, whom to cite, and where it comes from."""
    from kgtool.cli.render.data_sets import data_set_list
    from kgtool.data.registry.cache import cached_file, is_fetched
    from kgtool.data.registry.entries import find_entry

    entry = find_entry(name)
    Terminal().print(data_set_list(entry, cached_file(entry), is_fetched(entry)))


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
