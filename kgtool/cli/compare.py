"""Compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import EVALUATE, Hits, Overwrite, command, cut_offs
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


@command("compare runs/mine runs/other --group-by relation", panel=EVALUATE)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Evaluated runs or folders of data, or files of ranks; the first is the "
            "reference.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Split of the ranks in a run's folder.")] = "test",
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Print a table by relation, category, degree, ... or a column of the files; "
            "repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the whole table: .tsv or .parquet.", show_default=False),
    ] = None,
    hits: Hits = "1,3,10",
    overwrite: Overwrite = False,
) -> None:
    """Compare the metrics of runs, with significance tests.

    A paired bootstrap over triples gives each difference to the first run a confidence interval and
    a p-value. --group-by shows which groups gain and which lose.
    """
    from kgtool.api.compare import compare as compare_runs
    from kgtool.cli.render.comparison import comparison_table, group_comparison_table
    from kgtool.storage.files import refuse_existing
    from kgtool.storage.tables import save_table

    refuse_existing([] if out is None else [out], overwrite, runs)
    cut = cut_offs(hits)
    table = compare_runs(runs, split, cut)
    groups = table["by"].unique()[1:]
    for name in group_by or ():
        if name not in groups:
            raise ConfigError(f"the ranks have the groups {', '.join(groups)}, not {name!r}.")
    console = Terminal()
    console.print(comparison_table(table, cut))
    for name in group_by or ():
        console.print(group_comparison_table(table, name))
    if out is not None:
        save_table(table, out)
        typer.echo(f"Written to {out}")
