"""The command line: train, evaluate, explain, export, inspect."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kgtool.errors import ConfigError, KGToolError

app = typer.Typer(
    name="kgtool",
    help="Knowledge graph completion: train, evaluate, explain and export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kgtool {importlib.metadata.version('kgtool')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


Data = Annotated[
    Path | None,
    typer.Option(help="Folder, .zip or .tar.gz with train, valid and test.", show_default=False),
]
Hits = Annotated[str, typer.Option(help="The k of Hits@k.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(help="A TOML file, such as configs/families.toml.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value ...]",
            help="Settings that replace the file's, as in training.epochs=20.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder; runs/<name of CONFIG> by default.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
) -> None:
    """Train a model and leave a run folder.

    Ctrl-C saves and stops; the same command with --resume goes on exactly where it stopped.
    """
    from kgtool.config import load_config
    from kgtool.loaders import load_with_report
    from kgtool.trainer import Interrupted
    from kgtool.trainer import train as train_run

    settings = load_config(config, overrides or ())
    if data is not None:
        settings = settings.model_copy(update={"data": str(data)})
    if settings.data is None:
        raise ConfigError(f"{config} names no data set. Remedy: pass --data PATH or set data=PATH")
    out = out or Path("runs") / config.stem
    dataset, report = load_with_report(settings.data)
    Console().print(report.render())
    try:
        run = train_run(settings, dataset, out, resume=resume, progress=_interactive())
    except Interrupted:
        typer.echo(
            f"Stopped and saved. Go on with the same command and --resume; the run is {out}",
            err=True,
        )
        raise typer.Exit(130) from None
    best = max(run.history(), key=lambda row: row["valid_mrr"])
    # Not rich's print, here and below: it would read the [brackets] of a path as markup.
    typer.echo(
        f"Best valid MRR {best['valid_mrr']:.4f} after epoch {best['epoch']:.0f}; "
        f"the run is {run.path}"
    )


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: Data = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            help="Another run, whose scores are added; may be given again.",
            show_default=False,
        ),
    ] = None,
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
    from kgtool.triples import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}. Remedy: one of {', '.join(SPLITS)}")
    cut = _hits(hits)
    opened = Run.open(run)
    results = evaluate_run(opened, split, opened.dataset(data), _interactive(), beside or (), cut)
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

    cut = _hits(hits)
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


def _hits(text: str) -> tuple[int, ...]:
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise ConfigError(f"--hits {text}: no ranks. Remedy: whole numbers, as in 1,3,10")
    return tuple(dict.fromkeys(map(int, numbers)))


@app.command()
def explain(
    run: RunFolder,
    head: Annotated[str, typer.Argument(help="An entity's label.", show_default=False)],
    relation: Annotated[str, typer.Argument(help="A relation's label.", show_default=False)],
    tail: Annotated[str, typer.Argument(help="An entity's label.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Most paths to show.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file to write too.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="A .png, .svg or .pdf to draw them in.", show_default=False),
    ] = None,
    data: Data = None,
) -> None:
    """Show the relation paths that carried the score of a triple, strongest first.

    A triple that the graph holds is scored without its own edge. Weights are parts of the score,
    from the gradients of the pass; ^r is the relation r walked backwards.
    """
    from kgtool.api import explain as explain_run
    from kgtool.files import write_json
    from kgtool.report import explanation_table

    found = explain_run(run, head, relation, tail, top, data)
    Console().print(explanation_table(found))
    if json_file is not None:
        write_json(json_file, found.to_dict())
        typer.echo(f"Written to {json_file}")
    if picture is not None:
        from kgtool.picture import save_picture  # not before: it imports matplotlib

        save_picture(found, picture)
        typer.echo(f"Written to {picture}")


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    data: Data = None,
) -> None:
    """Write embeddings as TSV, as a TensorBoard projector pair and as word2vec text."""
    from kgtool.api import export as export_run

    for path in export_run(run, out, data):
        typer.echo(f"Written to {path}")


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(help="Folder, .zip or .tar.gz of triples.", show_default=False)
    ],
) -> None:
    """Load a data set and print what it holds, and what is odd about it."""
    from kgtool.loaders import load_with_report

    Console().print(load_with_report(path)[1].render())


def _interactive() -> bool:
    return sys.stderr.isatty()


def main() -> None:
    """Run the command line; a user's error is one message and an exit code, not a traceback."""
    try:
        app()
    except KGToolError as error:
        typer.secho(f"kgtool: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
