"""Complete a graph."""

from __future__ import annotations

from typing import Annotated

import typer

from kgtool.cli.app import (
    ANSWERS,
    ASK,
    AnswersFile,
    AnyType,
    AssumedMissing,
    Data,
    Features,
    FilterTypes,
    Labels,
    Overwrite,
    RunOrData,
    Top,
    Types,
    command,
    data_with,
    print_next,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError


@command("complete runs/mine --top 1000 --out new.tsv", panel=ASK)
def complete(
    run: RunOrData,
    top: Top = 1000,
    relation: Annotated[
        list[str] | None,
        typer.Option(
            help="Only triples of this relation; repeatable.",
            show_default=False,
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    filter_types: FilterTypes = False,
    types: Types = None,
    any_type: AnyType = False,
    assumed_missing: AssumedMissing = None,
    labels: Labels = None,
    out: AnswersFile = None,
    overwrite: Overwrite = False,
    data: Data = None,
    features: Features = None,
) -> None:
    """Predict the most probable missing triples of the whole graph.

    Every entity is scored as a head. Ctrl-C stops early and gives the best triples so far.
    """
    from kgtool.api.complete import complete as complete_run
    from kgtool.api.predict import open_predictor
    from kgtool.cli.render.answers import completion_table, meaning
    from kgtool.export.predictions import checked, save_predictions
    from kgtool.storage.files import refuse_existing

    if out is not None:
        refuse_existing([checked(out)], overwrite, [labels, types])
    if any_type and (filter_types or types is not None):
        raise ConfigError("--any-type does not go with --filter-types or --types.")
    graph = data_with(data, features)
    predictor = open_predictor(run, graph, labels, types, assumed_missing=assumed_missing)
    triples = complete_run(
        predictor,
        top,
        relations=relation or (),
        filter_types=filter_types or types is not None,
        any_type=any_type,
        progress=True,
    )
    if out is not None:
        save_predictions(triples, out, predictor.dataset.vocabulary)
    shown = top if out is None else 10
    note = meaning(predictor.assumed_missing, assumed_missing is not None)
    Terminal().print(completion_table(triples, predictor.labels, shown, note))
    if not any_type:
        Terminal().print("Answers of other types are left out; --any-type lists them too.")
    if out is not None:
        typer.echo(f"{len(triples):,} triples written to {out}")
    if triples.attrs["asked"] < triples.attrs["of"]:
        typer.echo(
            f"Interrupted after {triples.attrs['asked']:,} of {triples.attrs['of']:,} heads.",
            err=True,
        )
        raise typer.Exit(130)
    given = {"data": data, "features": features, "labels": labels}
    if out is None:
        print_next("complete", run, out="new.tsv", **given)
    else:
        print_next("export", run, out=run / "export", **given)
