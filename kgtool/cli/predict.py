"""Predict with a run: answers, next steps, routes, neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kgtool.cli.app import (
    ASK,
    AnswersFile,
    Data,
    FilterTypes,
    Labels,
    RunFolder,
    Top,
    Types,
    command,
    refuse_unused,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError

LINKS, NEXT, ROUTES, NEIGHBOURS = (
    f"--task {name}" for name in ("links", "next", "routes", "neighbours")
)
# Parameter → the tasks that use it.
USES = {
    "queries": (LINKS,),
    "include_known": (LINKS,),
    "filter_types": (LINKS,),
    "types": (LINKS,),
    "labels": (LINKS, NEIGHBOURS),
    "out": (LINKS,),
    "max_length": (ROUTES,),
}


@command(
    "predict runs/mine HEAD RELATION '?'",
    "predict runs/mine ENTITY --task neighbours",
    panel=ASK,
    long=False,
)
def predict(
    context: typer.Context,
    run: RunFolder,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HEAD RELATION TAIL]",
            help="Labels, with a quoted '?' in place of the missing one. ^r is the inverse of the "
            "relation r, r1/r2 a path. Other tasks: see above.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Literal["links", "next", "routes", "neighbours"],
        typer.Option(help="links, next, routes or neighbours.", metavar="TASK"),
    ] = "links",
    queries: Annotated[
        Path | None,
        typer.Option(
            help="File of queries, one per line, tab-separated; - is standard input.",
            show_default=False,
        ),
    ] = None,
    top: Top = 10,
    include_known: Annotated[
        bool, typer.Option("--include-known", help="Also print known answers.")
    ] = False,
    filter_types: FilterTypes = False,
    types: Types = None,
    labels: Labels = None,
    out: AnswersFile = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of relations in a route; by default one_path.max_path_length.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Predict missing entities and relations, next steps, routes or neighbours.

    --task links (the default) answers (HEAD RELATION ?), (? RELATION TAIL), (HEAD ? TAIL) or
    (HEAD r1/r2 ?), with probabilities that the first query fits on valid and the run's folder
    caches.

    --task next predicts the next step of a walk, ENTITY or ENTITY RELATION ENTITY and so on, with
    probabilities; steps in train are marked. --task routes predicts the relation paths from HEAD,
    or from HEAD to TAIL: the probability of a path is that of a walk from HEAD (to TAIL) which
    takes these relations and then ends. Both are for a run trained with one_path.walk_ratio.

    --task neighbours prints the entities nearest to ENTITY, by the cosine of their embeddings.
    """
    refuse_unused(context, f"--task {task}", USES)
    given = query or []
    if task == "next":
        _next(run, _counted(given, task, "ENTITY [RELATION ENTITY ...]", 1), top, data)
        return
    if task == "routes":
        ends = _counted(given, task, "HEAD [TAIL]", 1, 2)
        _routes(run, ends, top, data, max_length)
        return
    if task == "neighbours":
        _neighbours(run, _counted(given, task, "ENTITY", 1, 1)[0], top, labels, data)
        return
    from kgtool.api.predict import open_predictor
    from kgtool.cli.render.answers import answers_table
    from kgtool.export.predictions import checked, save_predictions
    from kgtool.inference.query import parse_question, parse_questions, read_lines

    if (queries is None) == (not query):
        raise ConfigError("give one query, or a file of queries with --queries.")
    if out is not None:
        checked(out)
    lines = read_lines(queries) if queries is not None else []
    predictor = open_predictor(run, data, labels, types)
    if queries is not None:
        place = "standard input" if str(queries) == "-" else str(queries)
        texts, parsed = parse_questions(lines, place, predictor.labels)
    else:
        texts, parsed = [query or []], [parse_question(query or [], predictor.labels)]
    filtered = filter_types or types is not None
    answers = predictor.ask(parsed, top, not include_known, filtered)
    if out is not None:
        save_predictions(answers, out, predictor.dataset.vocabulary)
        typer.echo(f"{len(answers):,} answers written to {out}")
        return
    Terminal().print(answers_table(answers, texts, predictor.labels))


def _counted(
    labels: list[str], task: str, usage: str, fewest: int, most: int | None = None
) -> list[str]:
    """The labels on the command line, if the task takes as many."""
    if len(labels) < fewest or (most is not None and len(labels) > most):
        raise ConfigError(
            f"--task {task} does not take {len(labels)} labels. Remedy: kgtool predict RUN {usage} "
            f"--task {task}"
        )
    return labels


def _next(run: Path, walk: list[str], top: int, data: Path | None) -> None:
    from kgtool.api.predict import predict_next
    from kgtool.cli.render.walks import steps_table

    Terminal().print(steps_table(predict_next(run, walk, top, data)))


def _routes(
    run: Path, ends: list[str], top: int, data: Path | None, max_length: int | None
) -> None:
    from kgtool.api.predict import predict_routes
    from kgtool.cli.render.walks import routes_table

    Terminal().print(
        routes_table(predict_routes(run, *ends, max_length=max_length, top=top, data=data))
    )


def _neighbours(run: Path, entity: str, top: int, labels: Path | None, data: Path | None) -> None:
    from kgtool.api.predict import neighbours, open_predictor
    from kgtool.cli.render.answers import neighbours_table

    predictor = open_predictor(run, data, labels)
    Terminal().print(neighbours_table(neighbours(predictor, entity, top), predictor.labels))
