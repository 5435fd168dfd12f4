"""Train a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import TRAIN, Columns, Data, command, data_of, print_next, reading_of
from kgtool.cli.render.console import Terminal
from kgtool.errors import DataError, Interrupted


@command("train configs/families.toml training.epochs=20 --out runs/families", panel=TRAIN)
def train(
    config: Annotated[
        Path,
        typer.Argument(help="TOML file, such as configs/families.toml.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value ...]",
            help="Settings that replace those of the file, as in training.epochs=20.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    columns: Columns = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the new run; by default runs/<name of CONFIG>.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint.")
    ] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run with the initial weights, matched by label.", show_default=False
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Show the course of the training in tensorboard, mlflow or wandb; more than one "
            "if repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a model and write a run folder.

    Ctrl-C saves and stops; the same command with --resume continues exactly there. With a larger
    training.epochs, --resume trains a finished run further: further steps take their learning rate
    from the schedule over the new number of epochs.

    One file of triples is split at random: 10 % are valid and 10 % are test. The run records this
    rule and --columns.

    --track tensorboard writes event files into the run folder: tensorboard --logdir runs. A resumed
    run continues the same tracked run, and training goes on if a tracker fails.

    Several processes, on one machine or on many that share a folder, train one model together:
    torchrun --nproc-per-node 4 -m kgtool train ...
    """
    from kgtool.api.train import train as train_run
    from kgtool.config import load_config
    from kgtool.data.loaders import load_with_report
    from kgtool.data.loaders.column_order import check_columns
    from kgtool.distributed import process_group
    from kgtool.runs.tracking import trackers_of

    trackers_of(track or ())  # fail before the data are loaded
    settings = load_config(config, overrides or ())
    if data is not None:
        settings = settings.model_copy(update={"data": str(data)})
    place = data_of(settings.data, config)
    out = out or Path("runs") / config.stem
    # When one process died and torchrun has restarted all, the command line is the same.
    resume = resume or (process_group.restarted() and (out / "config.toml").exists())
    dataset, report = load_with_report(place, reading=reading_of(columns=columns))
    Terminal().print(report.render())
    check_columns(dataset)  # before the doubt whether valid has triples
    for split in (report.train, report.valid):
        if not split.triples:
            raise DataError(
                f"{place}: {split.file} has no triples to train with. Remedy: make the "
                f"splits by kgtool data split {place} --out FOLDER --allow-unseen."
            )
    try:
        run = train_run(
            settings, dataset, out,
            resume=resume, progress=True, init_from=init_from, track=track or (),
        )  # fmt: skip
    except Interrupted:
        if process_group.rank() == 0:
            typer.echo(
                f"Stopped and saved. Continue with the same command and --resume; the run is {out}",
                err=True,
            )
        raise typer.Exit(130) from None
    best = run.best_validation()
    # Not rich's print, here and elsewhere: it would read the [brackets] of a path as markup.
    typer.echo(
        f"Best valid MRR {best['valid_mrr']:.4f} after epoch {best['epoch']:.0f}; "
        f"the run is {run.path}"
    )
    print_next("evaluate", run.path)
