"""Search for good settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import TRAIN, Columns, Data, Overrides, command, data_of, print_next, reading_of
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


@command(
    "tune families --trials 30 --out runs/families-tune",
    "tune families 'tune.dim=[16, 32, 64]' 'tune.training.learning_rate={log=[0.001, 0.1]}' "
    "--minutes 20",
    panel=TRAIN,
)
def tune(
    config: Annotated[
        Path,
        typer.Argument(
            help="TOML file, such as configs/families.toml, with a section tune or without.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    data: Data = None,
    columns: Columns = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; by default runs/<name of CONFIG>-tune.", show_default=False
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of trials of the study, over all processes and calls; 50 without "
            "--minutes.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time of this process in minutes.", show_default=False),
    ] = None,
) -> None:
    """Search for the settings with the best valid MRR.

    Each trial trains with other settings, which Optuna proposes: pip install optuna. The first has
    those of the configuration. A trial that falls behind is pruned. The section tune of the
    configuration names the settings with their values, as in dim = [16, 32] or
    training.learning_rate = {log = [0.001, 0.1]}; without it, the search is around the
    configuration.

    Ctrl-C saves and stops; the same command continues exactly there, and with more --trials or
    --minutes it continues a finished search. Started in several shells, the same command shares the
    trials among the processes.

    The best trial keeps its weights, and test is scored for it alone. The folder has the trials
    (trials.tsv), the best configuration (best.toml), the importance of settings (importance.tsv)
    and a picture (tune.png).
    """
    from kgtool.api.tune import tune as search
    from kgtool.cli.render.tuning import tuning_table
    from kgtool.config import TUNE, load_config, read_settings
    from kgtool.data.loaders import load_with_report
    from kgtool.data.loaders.column_order import check_columns
    from kgtool.training.space import parse_space
    from kgtool.training.study import optuna

    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes {minutes:g} is not above 0. Remedy: pass a larger number.")
    settings, where = read_settings(config, overrides or ())
    if data is not None:
        settings["data"] = str(data)
    checked = load_config({key: value for key, value in settings.items() if key != TUNE})
    parse_space(settings.get(TUNE), checked, where)  # fail before the data are loaded
    place = data_of(checked.data, config)
    optuna()
    out = out or Path("runs") / f"{config.stem}-tune"
    dataset, report = load_with_report(place, reading=reading_of(columns=columns))
    Terminal().print(report.render())
    check_columns(dataset)
    try:
        result = search(settings, dataset, out, trials=trials, minutes=minutes, progress=True)
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped and saved. Continue with the same command; the study is {out}", err=True
        )
        raise typer.Exit(130) from None
    Terminal().print(tuning_table(result))
    if result.run is None:
        typer.echo(f"No trial has finished yet. Continue with the same command; the study is {out}")
        return
    typer.echo(f"The best configuration is {out / 'best.toml'}; its run is {result.run.path}")
    if result.test is None:
        typer.echo("Another process is at work; the last one scores the best run on test.")
        return
    typer.echo(f"Test MRR of the best run {result.test.mrr:.4f}; the picture is {out / 'tune.png'}")
    print_next("report", result.run.path)
