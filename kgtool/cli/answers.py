"""What a run says and why: explanations, embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import Data, Labels, RunFolder, app
from kgtool.cli.render.console import Terminal


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
    labels: Labels = None,
    data: Data = None,
) -> None:
    """Show the relation paths that carried the score of a triple, strongest first.

    A triple that the graph holds is scored without its own edge. Weights are parts of the score,
    from the gradients of the pass; ^r is the relation r walked backwards.
    """
    from kgtool.api import explain as explain_run
    from kgtool.api import open_predictor
    from kgtool.cli.render.questions import explanation_table
    from kgtool.storage.files import write_json

    asked = open_predictor(run, data, labels)
    found = explain_run(asked, head, relation, tail, top)
    shown = found.readable(asked.labels.names)
    Terminal().print(explanation_table(shown))
    if json_file is not None:
        write_json(json_file, found.to_dict())
        typer.echo(f"Written to {json_file}")
    if picture is not None:
        from kgtool.inference.plot import save_picture

        save_picture(shown, picture)
        typer.echo(f"Written to {picture}")


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    forms: Annotated[
        str | None,
        typer.Option(
            help="Some of tsv,projector,word2vec,npy,parquet,safetensors; all by default.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A file of id and readable label, a tab between, for the projector's points.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Write embeddings for other tools.

    As TSV, for TensorBoard's projector (tensorboard --logdir FOLDER), as word2vec text (gensim), as
    .npy with id maps (as DGL-KE), as Parquet and as safetensors.
    """
    from kgtool.api import export as export_run
    from kgtool.export import FORMS

    chosen = FORMS if forms is None else [form.strip() for form in forms.split(",")]
    for path in export_run(run, out, data, chosen, labels):
        typer.echo(f"Written to {path}")
