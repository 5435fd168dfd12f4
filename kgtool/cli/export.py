"""Export embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    SHARE,
    Data,
    Features,
    Overwrite,
    RunFolder,
    command,
    data_with,
    print_next,
)


@command("export runs/mine --out vectors --formats npy,parquet", panel=SHARE)
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the files.", show_default=False)],
    formats: Annotated[
        str | None,
        typer.Option(
            help="Some of tsv,projector,word2vec,npy,parquet,safetensors; all by default.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table with a column of labels and one of readable names, for the projector and "
            "the tables.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    features: Features = None,
    overwrite: Overwrite = False,
) -> None:
    """Export embeddings of entities and relations for other tools.

    Formats: TSV, TensorBoard's projector (tensorboard --logdir FOLDER), word2vec text (gensim),
    .npy with id maps (as DGL-KE), Parquet and safetensors.
    """
    from kgtool.api.export import export as export_run
    from kgtool.export import FORMS

    chosen = FORMS if formats is None else [name.strip() for name in formats.split(",")]
    graph = data_with(data, features)
    for path in export_run(run, out, graph, formats=chosen, labels=labels, overwrite=overwrite):
        typer.echo(f"Written to {path}")
    print_next("report", run, data=data, features=features, labels=labels)
