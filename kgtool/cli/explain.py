"""Explain a score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import (
    ASK,
    OUTPUT,
    Data,
    Features,
    Labels,
    Overwrite,
    RunOrData,
    command,
    data_with,
    print_next,
)
from kgtool.cli.render.console import Terminal


@command("explain runs/mine HEAD RELATION TAIL --plot why.png", panel=ASK)
def explain(
    run: RunOrData,
    head: Annotated[str, typer.Argument(help="Label of an entity.", show_default=False)],
    relation: Annotated[str, typer.Argument(help="Label of a relation.", show_default=False)],
    tail: Annotated[str, typer.Argument(help="Label of an entity.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Maximum number of paths.")] = 10,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", help="JSON file for the paths.", show_default=False, rich_help_panel=OUTPUT
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Picture of the paths: .png, .svg or .pdf.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    labels: Labels = None,
    data: Data = None,
    features: Features = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the relation paths that carry the score of a triple, strongest first.

    The edge of a known triple is removed before it is scored. Paths are chosen by the gradients of
    the pass, then tested: the fall is what the score loses without the edges of a path. A negative
    weight speaks against the triple; ^r is the inverse of the relation r.
    """
    from kgtool.api.explain import explain as explain_run
    from kgtool.api.predict import open_predictor
    from kgtool.cli.render.questions import explanation_table
    from kgtool.storage.files import refuse_existing, write_json

    refuse_existing([each for each in (json_file, plot) if each], overwrite, [labels])
    predictor = open_predictor(run, data_with(data, features), labels)
    explanation = explain_run(predictor, head, relation, tail, top)
    given = {"data": data, "features": features, "labels": labels}
    shown = explanation.readable(predictor.labels.names)
    Terminal().print(explanation_table(shown))
    if json_file is not None:
        named = {entity for path in explanation.paths for entity in path.entities}
        names = {e: n for e, n in predictor.labels.names.items() if e in named}
        write_json(json_file, {**explanation.to_dict(), **({"names": names} if names else {})})
        typer.echo(f"Written to {json_file}")
    if plot is not None:
        from kgtool.inference.plot import save_picture

        save_picture(shown, plot)
        typer.echo(f"Written to {plot}")
        print_next("complete", run, out="new.tsv", **given)
    elif explanation.paths:
        print_next("explain", run, head, relation, tail, plot="why.png", **given)
