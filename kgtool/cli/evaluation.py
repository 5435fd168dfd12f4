"""Evaluate a run, and count from ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kgtool.cli.app import (
    Beside,
    Data,
    Hits,
    RunFolder,
    Split,
    app,
    cut_offs,
    interactive,
    known_split,
)
from kgtool.errors import ConfigError


@app.command()
def evaluate(
    run: RunFolder,
    split: Split = "test",
    data: Data = None,
    beside: Beside = None,
    hits: Hits = "1,3,10",
) -> None:
    """Rank every head and tail of a split; print the metrics and write them into the run's folder.

    There, metrics.SPLIT.json holds what is printed, breakdown.SPLIT.tsv the metrics by relation,
    cardinality, degree of the answer, distance and so on, ranks.SPLIT.tsv a row a query.

    With --data, an all-paths run answers on another graph of the same relations: its train triples
    are the graph, its entities its own. With --with RUN2, RUN2's scores are added by the weight
    that ranks valid best; with several, one after the other.
    """
    from kgtool.api import evaluate as evaluate_run
    from kgtool.report import breakdown_table, metrics_table
    from kgtool.run import Run

    known_split(split)
    cut = cut_offs(hits)
    opened = Run.open(run)
    results = evaluate_run(opened, split, opened.dataset(data), interactive(), beside or (), cut)
    console = Console()
    console.print(metrics_table(results.evaluation))
    console.print(breakdown_table(results.breakdown, "category", cut))
    for chosen in results.about.get("with", ()):
        valid = chosen["valid_mrr"]
        typer.echo(
            f"With {chosen['weight']:g} times the scores of {chosen['run']}: valid MRR "
            f"{valid[format(chosen['weight'], 'g')]:.4f}, without {valid['0']:.4f}."
        )
    for file in (results.metrics_file, results.breakdown_file, results.ranks_file):
        typer.echo(f"Written to {file}")


@app.command()
def relations(
    run: RunFolder,
    split: Split = "test",
    data: Data = None,
    beside: Beside = None,
    hits: Hits = "1,3,10",
) -> None:
    """Rank the relation of every triple of a split, (head, ?, tail), among all relations.

    Scores of either direction and counts on train are weighed by what fits valid best. Written into
    the run's folder, as relations.SPLIT.json and relations.SPLIT.tsv.
    """
    from kgtool.api import evaluate_relations, result_file
    from kgtool.report import relations_table
    from kgtool.run import Run

    opened = Run.open(run)
    dataset, others = opened.dataset(data), [Run.open(other) for other in beside or ()]
    found = evaluate_relations(
        opened, known_split(split), dataset, interactive(), others, cut_offs(hits)
    )
    Console().print(relations_table(found))
    for kind in ("relations.json", "relations.tsv"):
        typer.echo(f"Written to {result_file(opened, kind, split, dataset, others)}")


@app.command()
def classify(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="valid or test.")] = "test",
    data: Data = None,
    beside: Beside = None,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="Draw negatives even where the data have some.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Tell the triples of a split from negatives, the data's own or drawn ones.

    Where the data have valid_negatives and test_negatives, as .txt or .tsv, those are told.
    Thresholds for each relation and probabilities are fitted on valid. Written into the run's
    folder, as triples.SPLIT.json, calibration.SPLIT.tsv and triples.SPLIT.tsv.
    """
    from kgtool.api import evaluate_triples, result_file
    from kgtool.report import triples_table
    from kgtool.run import Run

    if split not in ("valid", "test"):
        raise ConfigError(f"no split {split!r} to classify. Remedy: valid or test")
    opened = Run.open(run)
    dataset, others = opened.dataset(data), [Run.open(other) for other in beside or ()]
    found = evaluate_triples(opened, split, dataset, others, sampled, seed)
    Console().print(triples_table(found))
    for kind in ("triples.json", "calibration.tsv", "triples.tsv"):
        typer.echo(f"Written to {result_file(opened, kind, split, dataset, others)}")


@app.command()
def metrics(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .tsv or .parquet with head, relation, tail, side, rank.", show_default=False
        ),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Show a table by relation, category, degree, ..., or by a column of your own; may "
            "be given again.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .tsv or .parquet for the whole table.", show_default=False),
    ] = None,
    hits: Hits = "1,3,10",
) -> None:
    """Metrics of ranks that stand in a file, of evaluate or of another tool.

    Every column that is not one of a ranks file's own groups the queries.
    """
    from kgtool.breakdown import breakdown
    from kgtool.rank_files import read_ranks
    from kgtool.report import breakdown_table
    from kgtool.tables import save_table

    cut = cut_offs(hits)
    queries, groups = read_ranks(file)
    for name in by or ():
        if name not in groups:
            raise ConfigError(f"{file} groups by {', '.join(groups)}, not by {name!r}.")
    table = breakdown(queries, groups, cut)
    console = Console()
    for name in ("all", *(by or ())):
        console.print(breakdown_table(table, name, cut))
    if out is not None:
        save_table(table, out)
        typer.echo(f"Written to {out}")
