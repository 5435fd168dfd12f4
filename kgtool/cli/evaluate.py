"""Evaluate a run on a task, baselines, or ranks in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kgtool.cli.app import (
    EVALUATE,
    Columns,
    Data,
    Ensemble,
    Features,
    Hits,
    Overwrite,
    Split,
    command,
    cut_offs,
    data_with,
    known_split,
    print_next,
    reading_of,
    refuse_unused,
    whole_numbers,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError
from kgtool.storage.files import refuse_existing

if TYPE_CHECKING:
    from kgtool.api.runs import AnyData

LINKS, RELATIONS, TRIPLES, PATHS, WALKS = TASKS = tuple(
    f"--task {name}" for name in ("links", "relations", "triples", "paths", "walks")
)
RANKS = "--ranks"
# Parameter → the modes that use it.
USES = {
    "run": TASKS,
    "task": TASKS,
    "split": TASKS,
    "data": TASKS,
    "features": TASKS,
    "columns": (LINKS,),
    "ensemble": (LINKS, RELATIONS, TRIPLES),
    "hits": (LINKS, RELATIONS, RANKS),
    "candidates": (LINKS,),
    "sample_negatives": (TRIPLES,),
    "lengths": (PATHS,),
    "num_queries": (PATHS,),
    "max_answers": (PATHS,),
    "compose": (PATHS,),
    "num_walks": (WALKS,),
    "seed": (TRIPLES, PATHS, WALKS),
    "group_by": (RANKS,),
    "out": (LINKS, RANKS),
    "overwrite": (LINKS, RANKS),
}


@command(
    "evaluate runs/mine --task relations",
    "evaluate --ranks runs/mine/ranks.test.tsv --group-by distance",
    panel=EVALUATE,
    long=False,
)
def evaluate(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run; without one, baselines.", show_default=False),
    ] = None,
    task: Annotated[
        Literal["links", "relations", "triples", "paths", "walks"],
        typer.Option(help="links, relations, triples, paths or walks.", metavar="TASK"),
    ] = "links",
    split: Split = "test",
    data: Data = None,
    features: Features = None,
    columns: Columns = None,
    ensemble: Ensemble = None,
    hits: Hits = "1,3,10",
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of negatives, path queries or walks.")
    ] = 0,
    candidates: Annotated[
        str,
        typer.Option(
            help="Candidates of each query: all, types, types:FILE or sampled:NUMBER.",
            rich_help_panel="Links",
        ),
    ] = "all",
    sample_negatives: Annotated[
        bool,
        typer.Option(
            "--sample-negatives",
            help="Sample negatives even if the data have some.",
            rich_help_panel="Triples",
        ),
    ] = False,
    lengths: Annotated[
        str, typer.Option(help="Numbers of relations in a path.", rich_help_panel="Paths")
    ] = "2,3,4,5",
    num_queries: Annotated[
        int,
        typer.Option(
            min=1,
            help="Queries per length that need held-out edges, and as many that do not.",
            rich_help_panel="Paths",
        ),
    ] = 1000,
    max_answers: Annotated[
        int,
        typer.Option(
            min=1, help="Skip queries with more answers than this.", rich_help_panel="Paths"
        ),
    ] = 1000,
    compose: Annotated[
        bool,
        typer.Option(
            "--compose",
            help="A one-path run also answers step by step.",
            rich_help_panel="Paths",
        ),
    ] = False,
    num_walks: Annotated[
        int, typer.Option(min=1, help="Number of walks.", rich_help_panel="Walks")
    ] = 2000,
    ranks: Annotated[
        Path | None,
        typer.Option(
            help="File of ranks, from evaluate or another tool: a .tsv or .parquet with the "
            "columns head, relation, tail, side and rank.",
            rich_help_panel="Ranks and baselines",
            show_default=False,
        ),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="Print a table by relation, category, degree, ... or a column of the file; "
            "repeatable.",
            rich_help_panel="Ranks and baselines",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --ranks, a .tsv or .parquet file for the whole table; without a run, a "
            "folder for the results of the baselines.",
            rich_help_panel="Ranks and baselines",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate a run; print the metrics and write them into the run's folder.

    --task links (the default) ranks every head and tail of a split. It writes metrics.SPLIT.json,
    breakdown.SPLIT.tsv (metrics by relation, cardinality, degree, distance, half-links, ...) and
    ranks.SPLIT.tsv, one row per query. With --ensemble RUN2, the scores of RUN2 are added with the
    weight that gives the best valid MRR. With --candidates, the ranking is not a full one, and the
    names of the files say so, as in metrics.sampled-500.SPLIT.json. An all-paths run also answers
    on another graph of the same relations, given by --data.

    --task relations ranks the relation of every triple, (head, ?, tail), among all relations.

    --task triples classifies the triples of a split against negatives: those of the data
    (valid_negatives and test_negatives), or sampled ones. Thresholds per relation and
    probabilities are fitted on valid.

    --task paths answers path queries (h, r1/.../rk, ?) that random walks sample. Answers that need
    held-out edges are reported apart from those that train contains.

    --task walks prints the perplexity of held-out walks, for a run trained
    with one_path.walk_ratio.

    --ranks FILE computes metrics from a file of ranks. Without a run, baselines that learn nothing
    are ranked on --data: frequent answers of the relation, inverse and duplicate relations,
    personalised PageRank, and recency where triples have a time. PageRank takes hours on a large
    graph: Ctrl-C keeps the finished ones.
    """
    refuse_unused(context, f"--task {task}" if ranks is None else RANKS, USES)
    if run is None and features:
        raise ConfigError("--features is for a run. Remedy: leave it out, or give a run")
    graph = data_with(data, features)
    if ranks is not None:
        if out is not None:
            refuse_existing([out], overwrite, [ranks])
        _ranks(ranks, cut_offs(hits), group_by or [], out)
    elif run is None:
        if task != "links" or data is None or ensemble:
            raise ConfigError(
                "without a run, evaluate ranks baselines for --task links. Remedy: give a run, or "
                "--data PATH without --ensemble"
            )
        _baselines(
            data, known_split(split), cut_offs(hits), candidates=candidates, out=out,
            columns=columns, overwrite=overwrite,
        )  # fmt: skip
    elif columns is not None:
        raise ConfigError(
            "--columns is for baselines: a run records its own. Remedy: leave it out, or convert "
            "other data by kgtool data convert --columns"
        )
    elif out is not None:
        raise ConfigError(
            "--out is for baselines and --ranks. Remedy: leave it out; the run's folder gets the "
            "results"
        )
    elif task == "links":
        _links(
            run, known_split(split), graph, ensemble=ensemble or [], hits=cut_offs(hits),
            candidates=candidates,
        )  # fmt: skip
    elif task == "relations":
        _relations(run, known_split(split), graph, ensemble or [], cut_offs(hits))
    elif task == "triples":
        _triples(
            run, known_split(split, ("valid", "test")), graph, ensemble=ensemble or [],
            sample_negatives=sample_negatives, seed=seed,
        )  # fmt: skip
    elif task == "paths":
        _paths(
            run, known_split(split, ("valid", "test")), graph, max_answers=max_answers,
            lengths=whole_numbers("--lengths", lengths, "2,3,4,5"), num_queries=num_queries,
            seed=seed, compose=compose,
        )  # fmt: skip
    else:
        _walks(run, known_split(split), graph, num_walks, seed)


def _links(
    run: Path,
    split: str,
    data: AnyData | None,
    *,
    ensemble: list[Path],
    hits: tuple[int, ...],
    candidates: str,
) -> None:
    from kgtool.api.evaluate import evaluate as evaluate_run
    from kgtool.cli.render.ranking import breakdown_table, metrics_table

    result = evaluate_run(
        run, split, data, ensemble=ensemble, hits=hits, candidates=candidates,
        progress=True,
    )  # fmt: skip
    console = Terminal()
    console.print(metrics_table(result.evaluation))
    for by in ("category", "half_links"):
        console.print(breakdown_table(result.breakdown, by, hits))
    for added in result.about.get("with", ()):
        valid = added["valid_mrr"]
        typer.echo(
            f"With {added['weight']:g} times the scores of {added['run']}: valid MRR "
            f"{valid[format(added['weight'], 'g')]:.4f}, without {valid['0']:.4f}."
        )
    _written(*result.files)
    if data is None and not ensemble:
        head, relation, _ = result.dataset.split(split)[0].tolist()
        labels = result.dataset.vocabulary
        print_next("predict", run, labels.entities[head], labels.relations[relation], "?")


def _relations(
    run: Path, split: str, data: AnyData | None, ensemble: list[Path], hits: tuple[int, ...]
) -> None:
    from kgtool.api.evaluate import evaluate_relations
    from kgtool.cli.render.questions import relations_table

    result = evaluate_relations(run, split, data, ensemble=ensemble, hits=hits, progress=True)
    Terminal().print(relations_table(result.evaluation))
    _written(*result.files)


def _triples(
    run: Path,
    split: str,
    data: AnyData | None,
    *,
    ensemble: list[Path],
    sample_negatives: bool,
    seed: int,
) -> None:
    from kgtool.api.evaluate import evaluate_triples
    from kgtool.cli.render.questions import triples_table

    result = evaluate_triples(
        run, split, data, ensemble=ensemble, sample_negatives=sample_negatives, seed=seed
    )
    Terminal().print(triples_table(result.evaluation))
    _written(*result.files)


def _paths(
    run: Path,
    split: str,
    data: AnyData | None,
    *,
    lengths: tuple[int, ...],
    num_queries: int,
    max_answers: int,
    seed: int,
    compose: bool,
) -> None:
    from kgtool.api.evaluate import evaluate_paths
    from kgtool.cli.render.questions import paths_table

    result = evaluate_paths(
        run, split, data, lengths=lengths, num_queries=num_queries, max_answers=max_answers,
        seed=seed, compose=compose, progress=True,
    )  # fmt: skip
    Terminal().print(paths_table(result))
    _written(*result.files)


def _walks(run: Path, split: str, data: AnyData | None, num_walks: int, seed: int) -> None:
    from kgtool.api.evaluate import evaluate_walks
    from kgtool.cli.render.walks import perplexity_table

    result = evaluate_walks(run, split, data, num_walks=num_walks, seed=seed)
    Terminal().print(perplexity_table(result.evaluation))
    _written(*result.files)


def _baselines(
    data: Path,
    split: str,
    hits: tuple[int, ...],
    *,
    candidates: str,
    out: Path | None,
    columns: str | None,
    overwrite: bool,
) -> None:
    from kgtool.api.evaluate import evaluate_baselines
    from kgtool.cli.render.ranking import baselines_table
    from kgtool.data.loaders import load_dataset

    dataset = load_dataset(data, reading=reading_of(columns=columns), times=True)
    if note := dataset.loading.get("note"):
        typer.echo(f"{data}: {note}")
    baselines = evaluate_baselines(
        dataset, split, out, hits=hits, candidates=candidates, progress=True,
        overwrite=overwrite,
    )  # fmt: skip
    table = {name: result.evaluation for name, result in baselines.items()}
    Terminal().print(baselines_table(table))
    if out is not None:
        _written(*(result.metrics_file.parent for result in baselines.values()))


def _ranks(file: Path, hits: tuple[int, ...], group_by: list[str], out: Path | None) -> None:
    from kgtool.cli.render.ranking import breakdown_table, ranked_among
    from kgtool.evaluation.analysis.breakdown import breakdown
    from kgtool.evaluation.analysis.rank_table import read_ranks
    from kgtool.storage.tables import save_table

    queries, groups = read_ranks(file)
    for name in group_by:
        if name not in groups:
            raise ConfigError(f"{file} has the groups {', '.join(groups)}, not {name!r}.")
    table = breakdown(queries, groups, hits)
    console = Terminal()
    for name in ("all", *group_by):
        console.print(breakdown_table(table, name, hits))
    typer.echo(ranked_among(queries))
    if out is not None:
        save_table(table, out)
        _written(out)


def _written(*places: Path) -> None:
    for place in places:
        typer.echo(f"Written to {place}")
