"""Write an HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    SHARE,
    Data,
    Ensemble,
    Overwrite,
    RunFolder,
    Split,
    command,
    known_split,
    print_next,
)


@command("report runs/mine --labels names.tsv", panel=SHARE)
def report(
    run: RunFolder,
    split: Split = "test",
    data: Data = None,
    ensemble: Ensemble = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table with a column of labels and one of readable names: printed in place of "
            "labels.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML file; by default report.SPLIT.html in the run's folder, written anew.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page about an evaluated run: settings, metrics, plots, predictions.

    The page works offline and runs no script. Its metrics come from the files of kgtool evaluate
    RUN; the model adds sample predictions, their explanations and a map of the entity embeddings.
    With --ensemble RUN2, the page is about kgtool evaluate RUN --ensemble RUN2.
    """
    from kgtool.api.report import report as write_report

    page = write_report(
        run, known_split(split), data, ensemble=ensemble or (), labels=labels, out=out,
        progress=True, overwrite=overwrite,
    )  # fmt: skip
    typer.echo(f"Written to {page}")
    print_next("serve", run, data=data, labels=labels)
