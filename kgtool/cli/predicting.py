"""Ask a run for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgtool.cli.app import Data, Labels, RunFolder, app, interactive
from kgtool.cli.render.console import Terminal
from kgtool.errors import ConfigError

Top = Annotated[int, typer.Option(min=1, help="Most to give.")]
Typed = Annotated[
    bool,
    typer.Option("--typed", help="Only entities that train has on that side of the relation."),
]
Types = Annotated[
    Path | None,
    typer.Option(
        help="A file of id and type, a tab between: only entities of a fitting type.",
        show_default=False,
    ),
]
Answers = Annotated[
    Path | None,
    typer.Option("--out", help="A .tsv, .jsonl, .parquet or .nt to write.", show_default=False),
]


@app.command()
def predict(
    run: RunFolder,
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HEAD RELATION TAIL]",
            help="Labels, with a quoted '?' for what is asked. ^r is the inverse of the relation "
            "r, r1/r2 a path.",
            show_default=False,
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="A file of questions, three cells a line with tabs; - for standard input.",
            show_default=False,
        ),
    ] = None,
    top: Top = 10,
    known: Annotated[
        bool, typer.Option("--all", help="Answers that are known too, not only new ones.")
    ] = False,
    typed: Typed = False,
    types: Types = None,
    labels: Labels = None,
    out: Answers = None,
    data: Data = None,
) -> None:
    """Answer (head, relation, ?), (?, relation, tail), (head, ?, tail) or (head, r1/r2, ?).

    Probabilities are fitted on valid at the first question, and kept in the run's folder.
    """
    from kgtool.api import open_predictor
    from kgtool.cli.render.answers import answers_table
    from kgtool.export.predictions import checked, save_predictions
    from kgtool.inference.query import parse_question, parse_questions, read_lines

    if (queries is None) == (not question):
        raise ConfigError("ask one question, or give a file of them with --queries.")
    if out is not None:
        checked(out)
    lines = read_lines(queries) if queries is not None else []
    asked = open_predictor(run, data, labels, types)
    typed = typed or types is not None
    if queries is not None:
        place = "standard input" if str(queries) == "-" else str(queries)
        texts, questions = parse_questions(lines, place, asked.labels)
    else:
        texts, questions = [question or []], [parse_question(question or [], asked.labels)]
    found = asked.ask(questions, top, not known, typed)
    if out is not None:
        save_predictions(found, out, asked.dataset.vocabulary)
        typer.echo(f"{len(found):,} answers written to {out}")
        return
    Terminal().print(answers_table(found, texts, asked.labels))


@app.command()
def complete(
    run: RunFolder,
    top: Top = 1000,
    relation: Annotated[
        list[str] | None,
        typer.Option(help="Ask for this relation only; may be given again.", show_default=False),
    ] = None,
    typed: Typed = False,
    types: Types = None,
    labels: Labels = None,
    out: Answers = None,
    data: Data = None,
) -> None:
    """The likeliest missing triples of the whole graph.

    Every entity is asked for what it may have. Ctrl-C ends the asking and gives what it has found.
    """
    from kgtool.api import complete as complete_run
    from kgtool.api import open_predictor
    from kgtool.cli.render.answers import completion_table
    from kgtool.export.predictions import checked, save_predictions

    if out is not None:
        checked(out)
    asked = open_predictor(run, data, labels, types)
    typed = typed or types is not None
    found = complete_run(asked, top, relation or (), typed, progress=interactive())
    if out is not None:
        save_predictions(found, out, asked.dataset.vocabulary)
    Terminal().print(completion_table(found, asked.labels, top if out is None else 10))
    if out is not None:
        typer.echo(f"{len(found):,} triples written to {out}")
    if found.attrs["asked"] < found.attrs["of"]:
        typer.echo(
            f"Interrupted: {found.attrs['asked']:,} of {found.attrs['of']:,} entities were asked.",
            err=True,
        )
        raise typer.Exit(130)


@app.command()
def neighbours(
    run: RunFolder,
    entity: Annotated[str, typer.Argument(help="An entity's label.", show_default=False)],
    top: Top = 10,
    labels: Labels = None,
    data: Data = None,
) -> None:
    """Show the entities most like one, by the cosine of their states."""
    from kgtool.api import neighbours as find_neighbours
    from kgtool.api import open_predictor
    from kgtool.cli.render.answers import neighbours_table

    asked = open_predictor(run, data, labels)
    Terminal().print(neighbours_table(find_neighbours(asked, entity, top), asked.labels))
