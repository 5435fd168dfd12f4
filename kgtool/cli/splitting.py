"""Make a data set of loose triples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import Columns, Delimiter, Format, Header, app, reading_of
from kgtool.cli.render.console import Terminal


@app.command()
def split(
    files: Annotated[
        list[str],
        typer.Argument(help="Files of triples; - is standard input.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.", show_default=False)],
    valid: Annotated[float, typer.Option(help="Share of the triples.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the triples.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Draws them.")] = 0,
    inductive: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Put this share of the entities in a second graph, in a folder OUT_ind.",
            show_default=False,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Split by the time in this column: the latest is test.",
            show_default=False,
        ),
    ] = None,
    remove_leaks: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of relations that share this much of their pairs, 0.97 say, keep the largest.",
            show_default=False,
        ),
    ] = None,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
) -> None:
    """Make a data set folder of loose triples: train, valid and test.

    Random triples are held out whose entities and relations stay in train; triples between the
    same two entities stay together. With --time, the latest are. What is in no split is in
    left_out.txt, with the reason behind it.
    """
    from kgtool.api import split as make
    from kgtool.cli.render.splitting import split_table

    reading = reading_of(format, columns, delimiter, header)
    made = make(files, out, valid, test, seed, inductive, time, remove_leaks, reading)
    Terminal().print(split_table(made))
    for folder in made.folders:
        typer.echo(f"Written to {folder}")
