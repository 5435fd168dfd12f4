"""Train a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgtool.cli.app import (
    TRAIN,
    Columns,
    Data,
    Minutes,
    Overrides,
    chosen_settings,
    command,
    data_of,
    print_next,
    reading_of,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError, DataError, Interrupted, RunError

if TYPE_CHECKING:
    from kgtool.config import Config
    from kgtool.data.dataset import KGDataset
    from kgtool.runs.run import Run

Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the new run; by default runs/<name of CONFIG>, or of the data.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a run with the initial weights, matched by label; pretrained: the "
        "weights that come with kgtool.",
        show_default=False,
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Show the course of the training in tensorboard, mlflow or wandb; more than one "
        "if repeated.",
        show_default=False,
    ),
]


@command(
    "train configs/families.toml training.epochs=20 --out runs/families",
    "train --data my-graph.csv --minutes 30",
    panel=TRAIN,
)
def train(
    config: Annotated[
        str | None,
        typer.Argument(
            help="TOML file, such as configs/families.toml, or a preset. Without it, the settings "
            "are chosen for the data.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    data: Data = None,
    columns: Columns = None,
    out: Out = None,
    minutes: Minutes = None,
    resume: Resume = False,
    init_from: InitFrom = None,
    track: Track = None,
) -> None:
    """Train a model and write a run folder.

    Without CONFIG, the settings are chosen: from the counts of the data, this machine and
    --minutes. They are printed with their reasons and written next to the run, as in
    runs/my-graph.toml. Given settings are respected.

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
    from kgtool.api.train import check_section
    from kgtool.api.train import train as train_run
    from kgtool.config import load_config
    from kgtool.distributed import process_group
    from kgtool.runs.tracking import trackers_of

    trackers_of(track or ())  # fail before the data are loaded
    given = list(overrides or ())
    if config is not None and "=" in config and not Path(config).exists():
        given, config = [config, *given], None  # it is a setting, not a configuration
    if config is not None and minutes is not None:
        raise ConfigError(
            f"--minutes chooses settings, and {config} states them. Remedy: leave out one of the "
            "two."
        )
    settings = None if config is None else load_config(config, given)
    if settings is not None:
        check_section(settings, pretraining=False)
    if settings is not None and data is not None:
        settings = settings.model_copy(update={"data": str(data)})
    place = data_of(settings.data if settings else str(data) if data else None, config)
    if settings is None and process_group.world_size() > 1:
        raise ConfigError(
            "several processes do not choose settings. Remedy: write them first, by kgtool config "
            f"--data {place} > my.toml, and pass my.toml to kgtool train."
        )
    dataset = load_for_training(place, columns)
    out = out or Path("runs") / (dataset.name if config is None else Path(config).stem)
    resume = resume or was_restarted(out)
    if settings is None:
        given = [f"data={json.dumps(str(data))}", *given]
        settings = _chosen(dataset, given, out=out, minutes=minutes, resume=resume)
    chosen = settings
    report_training(
        lambda: train_run(
            chosen, dataset, out,
            resume=resume, progress=True, init_from=init_from, track=track or (),
        ),
        out,
    )  # fmt: skip


def load_for_training(place: str, columns: str | None) -> KGDataset:
    """The data set of a training; prints the report on its files.

    Raises:
        DataError: if it cannot be used, or train or valid has no triples.
    """
    from kgtool.data.loaders import load_with_report
    from kgtool.data.loaders.column_order import check_columns

    dataset, report = load_with_report(place, reading=reading_of(columns=columns))
    Terminal().print(report.render())
    check_columns(dataset)  # before the doubt whether valid has triples
    for split in (report.train, report.valid):
        if not split.triples:
            raise DataError(
                f"{place}: {split.file} has no triples to train with. Remedy: make the "
                f"splits by kgtool data split {place} --out FOLDER --allow-unseen."
            )
    return dataset


def was_restarted(out: Path) -> bool:
    """Whether a process died and torchrun has restarted all, with the same command line."""
    from kgtool.distributed import process_group

    return process_group.restarted() and (out / "config.toml").exists()


def report_training(train: Callable[[], Run], out: Path) -> None:
    """Train, and print how it went.

    Args:
        train: trains the run.
        out: its folder.

    Raises:
        typer.Exit: with the code 130 after Ctrl-C.
    """
    from kgtool.distributed import process_group

    try:
        run = train()
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


def _chosen(
    dataset: KGDataset, given: list[str], *, out: Path, minutes: float | None, resume: bool
) -> Config:
    """The settings for a data set, printed and written next to the run; those of a run to resume.

    Raises:
        RunError: if the run or the file is there already.
    """
    from kgtool.cli.render.settings import settings_table
    from kgtool.config import load_config
    from kgtool.runs.run import is_hardly_begun, refuse_taken
    from kgtool.storage.files import atomic_write

    if resume and not is_hardly_begun(out):
        if not (out / "config.toml").is_file():
            raise RunError(f"{out} is not a run to resume. Remedy: leave out --resume.")
        return load_config(out / "config.toml", given)
    file = out.with_name(f"{out.name}.toml")
    refuse_taken(out, "choose another --out, or continue with --resume")
    if file.exists() and not resume:
        raise RunError(
            f"{file} exists: settings were chosen before. Remedy: train by kgtool train {file} "
            f"--out {out}, or choose another --out."
        )
    found = chosen_settings(dataset, minutes, given)
    with atomic_write(file) as opened:
        opened.write(found.to_toml())
    Terminal().print(settings_table(found))
    typer.echo(f"The settings are {file}")
    return found.config
