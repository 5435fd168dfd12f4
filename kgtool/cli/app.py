"""The command line's app, and the words that its commands share."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer

from kgtool.errors import ConfigError

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


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder, .zip or .tar.gz with train, valid and test; or a name of kgtool data list.",
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
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]


def known_split(split: str) -> str:
    """A split's name, if it is one."""
    from kgtool.triples import SPLITS  # not before: it imports torch

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
