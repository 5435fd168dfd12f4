"""Predict with a run: answers, next steps, routes, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kgtool.cli.app import (
    ANSWERS,
    ASK,
    AnswersFile,
    AnyType,
    AssumedMissing,
    Columns,
    Data,
    Delimiter,
    Features,
    FilterTypes,
    Format,
    Header,
    Labels,
    Overwrite,
    RunOrData,
    Top,
    Types,
    command,
    data_with,
    print_next,
    reading_of,
    refuse_unused,
)
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError, DataError, harmless

if TYPE_CHECKING:
    import pandas as pd

    from kgtool.api.runs import AnyData
    from kgtool.data.loaders.reading import Reading
    from kgtool.inference.predictor import Predictor
    from kgtool.inference.query import ParsedQuestions

ASKED = "?"

LINKS, NEXT, ROUTES, NEIGHBOURS = (
    f"--task {name}" for name in ("links", "next", "routes", "neighbours")
)
# The modes of --task links that score triples given in full.
TRIPLES, TRIPLE = "--triples", "HEAD RELATION TAIL"
# Parameter → the modes that use it.
USES = {
    "query": (LINKS, TRIPLE, NEXT, ROUTES, NEIGHBOURS),
    "queries": (LINKS,),
    "triples": (TRIPLES,),
    "strict": (LINKS, TRIPLES),
    "top": (LINKS, NEXT, ROUTES, NEIGHBOURS),
    "include_known": (LINKS,),
    "filter_types": (LINKS,),
    "types": (LINKS,),
    "any_type": (LINKS,),
    "assumed_missing": (LINKS, TRIPLES, TRIPLE),
    "labels": (LINKS, NEIGHBOURS, TRIPLES, TRIPLE),
    "out": (LINKS, TRIPLES, TRIPLE),
    "overwrite": (LINKS, TRIPLES, TRIPLE),
    "max_length": (ROUTES,),
    "format": (TRIPLES,),
    "columns": (TRIPLES,),
    "delimiter": (TRIPLES,),
    "header": (TRIPLES,),
}
# The options of --triples that data in the place of a run may need, too.
READ_ONCE = (
    "it is for the file of --triples. For data in the place of a run, pass it to kgtool data split "
    "FILE --out FOLDER, and ask FOLDER"
)
HINTS = dict.fromkeys(("format", "columns", "delimiter", "header"), READ_ONCE)
# Queries without an answer that are listed.
LISTED = 20


@command(
    "predict runs/mine HEAD RELATION '?'",
    "predict runs/mine --triples candidates.csv --out scored.tsv",
    "predict runs/mine ENTITY --task neighbours",
    panel=ASK,
    long=False,
)
def predict(
    context: typer.Context,
    run: RunOrData,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HEAD RELATION TAIL]",
            help="Labels, with a quoted '?' or '' in place of the missing one, or all three to "
            "score a triple; HEAD RELATION alone asks for the tail. ^r is the inverse of the "
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
            rich_help_panel="Many questions",
        ),
    ] = None,
    triples: Annotated[
        str | None,
        typer.Option(
            help="File of triples to score, in any format that can be trained on; - is standard "
            "input.",
            show_default=False,
            rich_help_panel="Many questions",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse the whole file if it has an unknown label or a line in error.",
            rich_help_panel="Many questions",
        ),
    ] = False,
    top: Top = 10,
    include_known: Annotated[
        bool,
        typer.Option("--include-known", help="Also print known answers.", rich_help_panel=ANSWERS),
    ] = False,
    filter_types: FilterTypes = False,
    types: Types = None,
    any_type: AnyType = False,
    assumed_missing: AssumedMissing = None,
    labels: Labels = None,
    out: AnswersFile = None,
    overwrite: Overwrite = False,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of relations in a route; by default one_path.max_path_length.",
            show_default=False,
            rich_help_panel="Routes",
        ),
    ] = None,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    header: Header = None,
    data: Data = None,
    features: Features = None,
) -> None:
    """Predict missing entities and relations, score triples, next steps, routes or neighbours.

    --task links (the default) answers (HEAD RELATION ?), (? RELATION TAIL), (HEAD ? TAIL) or
    (HEAD r1/r2 ?), with probabilities that the first query fits on valid and the run's folder
    caches. Known answers are counted, and --include-known lists them.

    (HEAD RELATION TAIL) and --triples score triples that you have: one row each, in their order.
    The relation may be a path r1/r2 too, which has a score and no probability.
    Rows and queries with an unknown label are listed with the reason, and the others are answered.

    --task next predicts the next step of a walk, ENTITY or ENTITY RELATION ENTITY and so on, with
    probabilities; steps in train are marked. --task routes predicts the relation paths from HEAD,
    or from HEAD to TAIL: the probability of a path is that of a walk from HEAD (to TAIL) which
    takes these relations and then ends. Both are for a run trained with one_path.walk_ratio.

    --task neighbours prints the entities nearest to ENTITY, by the cosine of their embeddings.
    """
    given = query or []
    mode = f"--task {task}"
    if mode == LINKS:
        given = [part or ASKED for part in given]
        given += [ASKED] if len(given) == 2 and ASKED not in given else []
    if mode == LINKS and triples is not None:
        mode = TRIPLES
    elif mode == LINKS and len(given) == 3 and ASKED not in given:
        mode = TRIPLE
    refuse_unused(context, mode, USES, HINTS)
    graph = data_with(data, features)
    if task == "next":
        _next(run, _counted(given, task, "ENTITY [RELATION ENTITY ...]", 1), top, graph)
        return
    if task == "routes":
        ends = _counted(given, task, "HEAD [TAIL]", 1, 2)
        _routes(run, ends, top, graph, max_length)
        return
    if task == "neighbours":
        _neighbours(run, _counted(given, task, "ENTITY", 1, 1)[0], top, labels, graph)
        return
    if any_type and (filter_types or types is not None):
        raise ConfigError("--any-type does not go with --filter-types or --types.")
    from kgtool.api.predict import open_predictor
    from kgtool.cli.render.answers import answers_table, meaning
    from kgtool.export.predictions import checked, save_predictions
    from kgtool.inference.query import (
        ParsedQuestions,
        parse_question,
        parse_questions,
        read_lines,
    )
    from kgtool.storage.files import refuse_existing

    if mode == LINKS and (queries is None) == (not query):
        raise ConfigError(
            "give one query, a file of queries with --queries, or a file of triples with --triples."
        )
    if out is not None:
        refuse_existing([checked(out)], overwrite, [queries, triples, labels, types])
    if mode in (TRIPLES, TRIPLE):
        reading = reading_of(format, columns, delimiter, header)
        rows = [given] if triples is None else _read_triples(triples, reading)
        predictor = open_predictor(run, graph, labels, assumed_missing=assumed_missing)
        scored = _score(predictor, rows, strict or triples is None, out)
        _print_next(predictor, scored, run, data=data, features=features, labels=labels)
        return
    lines = read_lines(queries) if queries is not None else []
    predictor = open_predictor(run, graph, labels, types, assumed_missing=assumed_missing)
    if queries is not None:
        place = "standard input" if str(queries) == "-" else str(queries)
        parsed = parse_questions(lines, place, predictor.labels, strict)
    else:
        parsed = ParsedQuestions([given], [parse_question(given, predictor.labels)], [0], {})
    filtered = filter_types or types is not None
    answers = predictor.ask(parsed.questions, top, not include_known, filtered, any_type=any_type)
    answers["question"] = [parsed.number[i] for i in answers["question"]]
    if out is not None:
        named = predictor.labels.with_names(answers)
        save_predictions(named, out, predictor.dataset.vocabulary)
        typer.echo(f"{len(answers):,} answers written to {out}")
    else:
        note = meaning(predictor.assumed_missing, assumed_missing is not None)
        Terminal().print(
            answers_table(
                answers, parsed.texts, predictor.labels, note, typed=filtered, unread=parsed.reasons
            )
        )
    _list_unread(parsed)
    _print_next(predictor, answers, run, data=data, features=features, labels=labels)


def _print_next(predictor: Predictor, frame: pd.DataFrame, run: Path, **options: object) -> None:
    """Print how the likeliest answer is explained, or how the whole graph is completed."""
    explained = frame[frame["relation"].isin(predictor.dataset.vocabulary.step_ids)]
    explained = explained[explained["score"].notna()]
    if predictor.passes is None or not len(explained):
        print_next("complete", run, out="new.tsv", **options)
        return
    best = explained.sort_values("probability", ascending=False, kind="stable").iloc[0]
    print_next("explain", run, best["head"], best["relation"], best["tail"], **options)


def _read_triples(place: str, reading: Reading) -> list[tuple[str, str, str]]:
    """The labels of a file of triples, in its order."""
    from kgtool.data.loaders import read_triples

    found = read_triples([place], reading)
    for note in found.notes:
        typer.echo(f"Note: {note}", err=True)
    entities, relations = found.vocabulary.entities, found.vocabulary.relations
    return [(entities[h], relations[r], entities[t]) for h, r, t in found.triples.tolist()]


def _score(
    predictor: Predictor, rows: Sequence[Sequence[str]], strict: bool, out: Path | None
) -> pd.DataFrame:
    """Print or write the scores of triples, and return them."""
    from kgtool.cli.render.answers import meaning, scored_count, scored_table
    from kgtool.export.predictions import save_predictions

    frame = predictor.score_triples(rows, strict, progress=len(rows) > 1)
    failed = frame[frame["reason"] != ""]
    if len(failed) == len(frame):
        raise DataError(
            f"none of {len(frame):,} triples can be scored; the first: {failed['reason'].iloc[0]}. "
            "Remedy: check the columns and the labels."
        )
    if out is not None:
        save_predictions(frame, out, predictor.dataset.vocabulary)
    elif frame["probability"].notna().any():
        note = meaning(predictor.assumed_missing, predictor.given_missing is not None)
        Terminal().print(scored_table(frame, predictor.labels), note)
    else:
        Terminal().print(scored_table(frame, predictor.labels))
    if out is not None:
        for number, row in list(failed.iterrows())[:LISTED]:
            typer.echo(f"triple {int(number) + 1:,}: {row['reason']}", err=True)
        typer.echo(f"Written to {out}")
    if len(frame) > 1 or out is not None:
        typer.echo(scored_count(frame))
    return frame


def _list_unread(parsed: ParsedQuestions) -> None:
    """Print the queries that were not answered, and their number."""
    if not parsed.reasons:
        return
    for reason in list(parsed.reasons.values())[:LISTED]:
        typer.echo(harmless(reason), err=True)
    if len(parsed.reasons) > LISTED:
        typer.echo(f"... and {len(parsed.reasons) - LISTED:,} more", err=True)
    typer.echo(
        f"{len(parsed.reasons):,} of {len(parsed.texts):,} queries not answered; --strict refuses "
        "the file.",
        err=True,
    )


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


def _next(run: Path, walk: list[str], top: int, data: AnyData | None) -> None:
    from kgtool.api.predict import predict_next
    from kgtool.cli.render.walks import steps_table

    Terminal().print(steps_table(predict_next(run, walk, top, data)))


def _routes(
    run: Path, ends: list[str], top: int, data: AnyData | None, max_length: int | None
) -> None:
    from kgtool.api.predict import predict_routes
    from kgtool.cli.render.walks import routes_table

    Terminal().print(
        routes_table(predict_routes(run, *ends, max_length=max_length, top=top, data=data))
    )


def _neighbours(
    run: Path, entity: str, top: int, labels: Path | None, data: AnyData | None
) -> None:
    from kgtool.api.predict import neighbours, open_predictor
    from kgtool.cli.render.answers import neighbours_table

    predictor = open_predictor(run, data, labels)
    Terminal().print(neighbours_table(neighbours(predictor, entity, top), predictor.labels))
