"""The report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import Beside, Data, RunFolder, app, interactive
from kgtool.errors import ConfigError


@app.command()
def report(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: Data = None,
    beside: Beside = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A file of id and readable label, a tab between, shown in place of ids.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page; report.SPLIT.html in the run's folder by default.", show_default=False
        ),
    ] = None,
) -> None:
    """Write one HTML page about a run that was evaluated: set-up, metrics, plots, predictions.

    It needs no network and runs no script: keep it, mail it, print it. The numbers are those of the
    files that `kgtool evaluate RUN` left; the model is asked again for a few answers, why it gives
    them, and where its entities lie. With --with RUN2, the page is of the scores that `kgtool
    evaluate RUN --with RUN2` added up.
    """
    from kgtool.api import write_report
    from kgtool.data.dataset import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}. Remedy: one of {', '.join(SPLITS)}")
    page = write_report(run, split, data, labels, out, interactive(), beside or ())
    typer.echo(f"Written to {page}")
