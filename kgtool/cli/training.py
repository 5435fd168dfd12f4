"""Train a model, and give a trained one more triples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    Columns,
    Data,
    Delimiter,
    Format,
    Header,
    RunFolder,
    app,
    interactive,
    reading_of,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


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
    start: Annotated[
        Path | None,
        typer.Option(
            help="A run whose weights to begin from, matched by label.", show_default=False
        ),
    ] = None,
) -> None:
    """Train a model and leave a run folder.

    Ctrl-C saves and stops; the same command with --resume goes on exactly where it stopped.

    Several processes, on one machine or many that share a folder, train as one:
    torchrun --nproc-per-node 4 -m kgtool train ...
    """
    from kgtool.config import load_config
    from kgtool.data.loaders import load_with_report
    from kgtool.distributed import process_group
    from kgtool.errors import Interrupted
    from kgtool.training.trainer import train as train_run

    settings = load_config(config, overrides or ())
    if data is not None:
        settings = settings.model_copy(update={"data": str(data)})
    if settings.data is None:
        raise ConfigError(f"{config} names no data set. Remedy: pass --data PATH or set data=PATH")
    out = out or Path("runs") / config.stem
    # Where torchrun has started all processes anew, for one had died, the command is the same.
    resume = resume or (process_group.restarted() and (out / "config.toml").exists())
    dataset, report = load_with_report(settings.data)
    Terminal().print(report.render())
    try:
        run = train_run(settings, dataset, out, resume, interactive(), start)
    except Interrupted:
        if process_group.rank() == 0:
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
def extend(
    run: RunFolder,
    triples: Annotated[
        list[Path],
        typer.Argument(
            help="Files of triples in any format; - is standard input.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new run's folder.", show_default=False)],
    data: Data = None,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
) -> None:
    """Add triples to a run's train triples, without training: a new run.

    Entities may be new, relations not. The new run is evaluated, explained and exported as any
    other; train goes on from it with --start.
    """
    from kgtool.api import extend as extend_run
    from kgtool.cli.render.growth import growth_table

    reading = reading_of(format, columns, delimiter, header)
    grown = extend_run(run, triples, out, data, reading)
    Terminal().print(growth_table(grown.info))
    typer.echo(f"The run is {grown.path}; train on from it with --start {grown.path}")
