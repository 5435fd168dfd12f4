"""Path queries: what a run answers to chains of relations."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import Data, RunFolder, app, interactive, whole_numbers
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


@app.command()
def paths(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    data: Data = None,
    lengths: Annotated[str, typer.Option(help="Relations in a path.")] = "2,3,4,5",
    queries: Annotated[
        int, typer.Option(min=1, help="Queries of each length, held-out and train each.")
    ] = 1000,
    max_answers: Annotated[
        int, typer.Option(min=1, help="Queries of more answers than this are not asked.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the walks that draw queries.")] = 0,
    compose: Annotated[
        bool, typer.Option("--compose", help="Let a one-path run answer step by step too.")
    ] = False,
) -> None:
    """Answer path queries (h, r1/.../rk, ?), drawn by walks; print and write the metrics.

    A one-path run reads a path as a whole, an all-paths run answers its steps one after the other.
    Answers that held-out edges alone give stand apart from those that train gives. The run's folder
    gets paths.SPLIT.tsv and .json; with --compose, paths.composed.SPLIT.tsv and .json.
    """
    from kgtool.api import evaluate_paths
    from kgtool.cli.render.questions import paths_table
    from kgtool.runs.run import Run

    if split not in ("valid", "test"):
        raise ConfigError(f"--split {split}: holds nothing out. Remedy: valid or test")
    relations = whole_numbers("--lengths", lengths, "lengths", "2,3,4,5")
    opened = Run.open(run)
    results = evaluate_paths(
        opened, split, opened.dataset(data), relations, queries, max_answers, seed, compose,
        interactive(),
    )  # fmt: skip
    Terminal().print(paths_table(results))
    for file in (results.table_file, results.metrics_file):
        typer.echo(f"Written to {file}")
