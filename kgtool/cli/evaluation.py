"""Evaluate a run, and count from ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    Beside,
    By,
    Data,
    Hits,
    RunFolder,
    Split,
    TableFile,
    app,
    cut_offs,
    interactive,
    known_split,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


@app.command()
def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run's folder; without one, baselines.", show_default=False),
    ] = None,
    split: Split = "test",
    data: Data = None,
    beside: Beside = None,
    hits: Hits = "1,3,10",
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for the baselines' results.", show_default=False),
    ] = None,
    candidates: Annotated[
        str,
        typer.Option(help="What answers are ranked among: all, types, types:FILE, sampled:NUMBER."),
    ] = "all",
) -> None:
    """Rank every head and tail of a split; print the metrics and write them into the run's folder.

    There, metrics.SPLIT.json holds what is printed, breakdown.SPLIT.tsv the metrics by relation,
    cardinality, degree of the answer, distance and so on, ranks.SPLIT.tsv a row a query.

    With --data, an all-paths run answers on another graph of the same relations: its train triples
    are the graph, its entities its own. With --with RUN2, RUN2's scores are added by the weight
    that ranks valid best; with several, one after the other.

    With --candidates sampled:500, each answer is ranked among so many entities drawn at random,
    with types among those that train has on that side of the relation. Neither is a full ranking;
    the files say so, as in metrics.sampled-500.SPLIT.json.

    Without a run, what is trivial is ranked on --data: the relation's frequent answers, edges of
    inverse and duplicate relations, personalised PageRank. Each leaves a folder in --out that
    compare takes. Of a large graph, PageRank takes hours: Ctrl-C gives those that are done.
    """
    from kgtool.api import evaluate as evaluate_run
    from kgtool.api import evaluate_baselines
    from kgtool.cli.render.ranking import baselines_table, breakdown_table, metrics_table
    from kgtool.runs.run import Run

    known_split(split)
    cut = cut_offs(hits)
    console = Terminal()
    if run is None:
        if data is None or beside:
            raise ConfigError(
                "without a run, evaluate ranks baselines on --data PLACE, and nothing --with them."
            )
        baselines = evaluate_baselines(data, split, out, interactive(), cut, candidates)
        console.print(baselines_table({n: found.evaluation for n, found in baselines.items()}))
        if out is not None:
            for found in baselines.values():
                typer.echo(f"Written to {found.metrics_file.parent}")
        return
    if out is not None:
        raise ConfigError("--out is for baselines: a run's results go into its folder.")
    opened = Run.open(run)
    results = evaluate_run(
        opened, split, opened.dataset(data), interactive(), beside or (), cut, candidates
    )
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
    from kgtool.api import evaluate_relations
    from kgtool.api.runs import result_file
    from kgtool.cli.render.questions import relations_table
    from kgtool.runs.run import Run

    opened = Run.open(run)
    dataset, others = opened.dataset(data), [Run.open(other) for other in beside or ()]
    found = evaluate_relations(
        opened, known_split(split), dataset, interactive(), others, cut_offs(hits)
    )
    Terminal().print(relations_table(found))
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
    from kgtool.api import evaluate_triples
    from kgtool.api.runs import result_file
    from kgtool.cli.render.questions import triples_table
    from kgtool.runs.run import Run

    if split not in ("valid", "test"):
        raise ConfigError(f"no split {split!r} to classify. Remedy: valid or test")
    opened = Run.open(run)
    dataset, others = opened.dataset(data), [Run.open(other) for other in beside or ()]
    found = evaluate_triples(opened, split, dataset, others, sampled, seed)
    Terminal().print(triples_table(found))
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
    by: By = None,
    out: TableFile = None,
    hits: Hits = "1,3,10",
) -> None:
    """Metrics of ranks that stand in a file, of evaluate or of another tool.

    Every column that is not one of a ranks file's own groups the queries.
    """
    from kgtool.cli.render.ranking import breakdown_table, ranked_among
    from kgtool.evaluation.analysis.breakdown import breakdown
    from kgtool.evaluation.analysis.rank_table import read_ranks
    from kgtool.storage.tables import save_table

    cut = cut_offs(hits)
    queries, groups = read_ranks(file)
    for name in by or ():
        if name not in groups:
            raise ConfigError(f"{file} groups by {', '.join(groups)}, not by {name!r}.")
    table = breakdown(queries, groups, cut)
    console = Terminal()
    for name in ("all", *(by or ())):
        console.print(breakdown_table(table, name, cut))
    typer.echo(ranked_among(queries))
    if out is not None:
        save_table(table, out)
        typer.echo(f"Written to {out}")


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders that were evaluated, or files of ranks; the others are compared "
            "with the first.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Whose ranks of a folder.")] = "test",
    by: By = None,
    out: TableFile = None,
    hits: Hits = "1,3,10",
) -> None:
    """Metrics side by side, and whether the differences are noise.

    Runs that answered the same queries are resampled together: a paired bootstrap over triples
    gives each difference to the first run an interval and a p-value; --by shows which groups gain
    and lose.
    """
    from kgtool.api import compare as compare_runs
    from kgtool.cli.render.comparison import comparison_table, group_comparison_table
    from kgtool.storage.tables import save_table

    cut = cut_offs(hits)
    table = compare_runs(runs, split, cut)
    groups = table["by"].unique()[1:]
    for name in by or ():
        if name not in groups:
            raise ConfigError(f"the ranks group by {', '.join(groups)}, not by {name!r}.")
    console = Terminal()
    console.print(comparison_table(table, cut))
    for name in by or ():
        console.print(group_comparison_table(table, name))
    if out is not None:
        save_table(table, out)
        typer.echo(f"Written to {out}")
