"""The command line's app, and the words that its commands share."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgtool.errors import ConfigError

if TYPE_CHECKING:
    from kgtool.data.loaders.reading import Reading

app = typer.Typer(
    name="kgtool",
    help="Knowledge graph completion: train, evaluate, explain and export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kgtool {importlib.metadata.version('kgtool')}")
        raise typer.Exit


# Commands whose work several processes share.
SHARED = ("train", "evaluate")


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand not in SHARED:
        raise ConfigError(
            f"{context.invoked_subcommand} is the work of one process. Remedy: start it without "
            f"torchrun, which is for {' and '.join(SHARED)}."
        )


Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder or archive with train, valid and test; or a name of kgtool data list.",
        show_default=False,
    ),
]
Hits = Annotated[str, typer.Option(help="The k of Hits@k.")]
Split = Annotated[str, typer.Option(help="train, valid or test.")]
Beside = Annotated[
    list[Path] | None,
    typer.Option(
        "--with",
        help="Another run, whose scores are added; may be given again.",
        show_default=False,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        help="Show a table by relation, category, degree, ..., or by a column of your own; may be "
        "given again.",
        show_default=False,
    ),
]
TableFile = Annotated[
    Path | None,
    typer.Option("--out", help="A .tsv or .parquet for the whole table.", show_default=False),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="tsv, csv, parquet, jsonl, ntriples or turtle; by default the file's name says it.",
        show_default=False,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Those of head, relation and tail, in that order: names, or numbers from 1.",
        metavar="NAME,NAME,NAME",
        show_default=False,
    ),
]
Delimiter = Annotated[
    str | None, typer.Option(help="What separates the columns of a CSV.", show_default=False)
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns; by default a look at it.",
        show_default=False,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="A file of id and readable name, a tab between: shown, and understood.",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]


def reading_of(
    format: str | None, columns: str | None, delimiter: str | None, header: bool | None
) -> Reading:
    """What the options say about files of triples."""
    from kgtool.data.loaders.reading import Reading

    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    return Reading(format, names, "\t" if delimiter == "\\t" else delimiter, header)


def known_split(split: str) -> str:
    """A split's name, if it is one."""
    from kgtool.data.dataset import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}. Remedy: one of {', '.join(SPLITS)}")
    return split


def cut_offs(text: str) -> tuple[int, ...]:
    """The k of Hits@k that an option `1,3,10` says."""
    return whole_numbers("--hits", text, "ranks", "1,3,10")


def whole_numbers(option: str, text: str, what: str, example: str) -> tuple[int, ...]:
    """The positive numbers that an option like `1,3,10` lists, each once."""
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise ConfigError(f"{option} {text}: no {what}. Remedy: whole numbers, as in {example}")
    return tuple(dict.fromkeys(map(int, numbers)))


def interactive() -> bool:
    """Whether a person may be watching, who wants a progress bar."""
    return sys.stderr.isatty()
