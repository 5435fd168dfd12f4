"""Extend a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    TRAIN,
    Columns,
    Data,
    Delimiter,
    Features,
    Format,
    Header,
    RunFolder,
    command,
    print_next,
    reading_of,
)
from kgtool.cli.render.console import Terminal


@command("extend runs/mine new.tsv --out runs/extended", panel=TRAIN)
def extend(
    run: RunFolder,
    triples: Annotated[
        list[Path],
        typer.Argument(
            help="Files of triples in any format; - is standard input.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new run.", show_default=False)],
    data: Data = None,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
    features: Features = None,
) -> None:
    """Add triples and entities to a run without training; write a new run.

    Entities may be new. Relations may be new for a run with encoder.kind = relations, not for
    others. A run with encoder.features answers for a new entity by its vector. All commands accept
    the new run; to train it further, pass it to kgtool train --init-from.
    """
    from kgtool.api.extend import extend as extend_run
    from kgtool.cli.render.growth import growth_table

    reading = reading_of(format, columns, delimiter, header)
    extended = extend_run(run, triples, out, data, reading, features=features)
    Terminal().print(growth_table(extended.read_info()))
    typer.echo(f"The run is {extended.path}; train it further with --init-from {extended.path}")
    print_next("evaluate", extended.path)
