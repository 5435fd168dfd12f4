"""Write an HTML report and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    SHARE,
    Data,
    Ensemble,
    Features,
    Overwrite,
    RunOrData,
    Split,
    command,
    data_with,
    known_split,
    print_next,
)


@command("report runs/mine --labels names.tsv", panel=SHARE)
def report(
    run: RunOrData,
    split: Split = "test",
    data: Data = None,
    features: Features = None,
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
    """Write an HTML page and a model card about an evaluated run.

    The page has settings, metrics, plots and predictions; it works offline and runs no script. The
    card, a Markdown file next to it, says what the run was trained on, its figures, and where not
    to trust it. The metrics come from the files of kgtool evaluate RUN. The model adds sample
    predictions, their explanations and a map of the entity embeddings. What was not evaluated is
    named with the command that does it.

    With --ensemble RUN2, the page is about kgtool evaluate RUN --ensemble RUN2.
    """
    from kgtool.api.report import card_of
    from kgtool.api.report import report as write_report

    page = write_report(
        run, known_split(split), data_with(data, features), ensemble=ensemble or (), labels=labels,
        out=out, progress=True, overwrite=overwrite,
    )  # fmt: skip
    typer.echo(f"Written to {page}")
    typer.echo(f"Written to {card_of(page)}")
    print_next("serve", run, data=data, features=features, labels=labels)
