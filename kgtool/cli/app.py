"""The application of the command line, and the arguments and options that commands share."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from kgtool.cli.renamed import refuse_old_command, refuse_old_options
from kgtool.errors import ConfigError, harmless

if TYPE_CHECKING:
    from kgtool.data.dataset import KGDataset
    from kgtool.data.loaders.reading import Reading
    from kgtool.training.automatic import ChosenSettings

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., None])

# The panels of `kgtool --help`, in their order.
PANELS = DATA, TRAIN, EVALUATE, ASK, SHARE = "Data", "Train", "Evaluate", "Ask", "Share"
# The panels of options that several commands have.
GRAPH, READING, ANSWERS, OUTPUT = "Data and names", "How to read files", "Which answers", "Output"


class Group(TyperGroup):
    """A group of commands: listed panel by panel; old names are errors that give the new ones."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands in the order of the panels."""
        panels = {
            name: getattr(self.commands[name], "rich_help_panel", None) for name in self.commands
        }
        return sorted(panels, key=lambda name: PANELS.index(panels[name]) if panels[name] else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with; refuses old names."""
        if args[0] not in self.commands:
            refuse_old_command(args[0])
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            options = (option for parameter in command.params for option in parameter.opts)
            refuse_old_options(rest, options)
        return name, command, rest


class Command(TyperCommand):
    """A command whose help fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; see `kgtool.cli.render.help`."""
        from kgtool.cli.render.help import print_help

        print_help(self, ctx)


app = typer.Typer(
    name="kgtool",
    cls=Group,
    help="Knowledge graph completion on DGL: train, evaluate, predict, explain and export.",
    epilog="Example: kgtool train configs/families.toml --out runs/families",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(
    *examples: str,
    panel: str | None = None,
    group: typer.Typer = app,
    name: str | None = None,
    long: bool = True,
) -> Callable[[CommandFunction], CommandFunction]:
    """Decorates the function of a command; its docstring is the help.

    Args:
        examples: command lines, without `kgtool`; they end the help.
        panel: one of `PANELS`, of a command of `app`.
        group: where the command belongs.
        name: of the command; by default that of the function.
        long: whether it may take long, so that it shows its progress; the imports for it take a
            second. A command that calls `refuse_unused` shows its progress from there on.
    """

    def register(function: CommandFunction) -> CommandFunction:
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
        epilog = "\n\n".join(f"Example: kgtool {example}" for example in examples)
        title = name or function.__name__

        @wraps(function)
        def run(*args: Any, **options: Any) -> None:
            with _progress(title) if long else nullcontext(), _ctrl_c():
                function(*args, **options)

        group.command(name, cls=Command, help=text, epilog=epilog, rich_help_panel=panel)(run)
        return function

    return register


@contextmanager
def _progress(title: str) -> Iterator[None]:
    """Show the progress of a command, in the first process of several."""
    from kgtool.ops import show_progress

    if int(os.environ.get("RANK", "0")):
        yield
        return
    with show_progress(title):
        yield


_interrupts: list[int] = []


def was_interrupted() -> bool:
    """Whether Ctrl-C came while a command ran."""
    return bool(_interrupts)


@contextmanager
def _ctrl_c() -> Iterator[None]:
    """Turn Ctrl-C into a KeyboardInterrupt from here on; before, it ends the process at once."""

    def note(number: int, _: FrameType | None) -> None:
        _interrupts.append(number)
        raise KeyboardInterrupt

    _interrupts.clear()
    before = signal.getsignal(signal.SIGINT)
    ours = before in (signal.SIG_DFL, signal.default_int_handler)
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kgtool {importlib.metadata.version('kgtool')}")
        raise typer.Exit


# The commands that several processes can work on together.
SHARED = ("train", "pretrain", "evaluate")


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
            f"{context.invoked_subcommand} runs in one process. Remedy: start it without torchrun, "
            f"which is for {', '.join(SHARED[:-1])} and {SHARED[-1]}."
        )


RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
RunOrData = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run; or data, on which pre-trained weights answer.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value ...]",
        help="Settings that replace those of the file, as in training.epochs=20.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder or archive with train, valid and test, one file of triples, or a name from "
        "kgtool data list.",
        show_default=False,
        rich_help_panel=GRAPH,
    ),
]
Features = Annotated[
    list[Path] | None,
    typer.Option(
        help="File of vectors of entities that a run with encoder.features lacks: .npy, .parquet, "
        ".tsv or .csv; repeated for a run with several.",
        show_default=False,
        rich_help_panel=GRAPH,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Time that training by the chosen settings may take on this machine; 20 by default.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(help="train, valid or test.")]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of another run, whose scores are added; repeatable.", show_default=False
    ),
]
Hits = Annotated[str, typer.Option(help="The k of Hits@k, as in 1,3,10.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Table with a column of labels and one of readable names: printed, written next to "
        "labels, and accepted in queries. FILE:ID,NAME names the columns.",
        show_default=False,
        rich_help_panel=GRAPH,
    ),
]
Top = Annotated[
    int, typer.Option(min=1, help="Maximum number of results.", rich_help_panel=ANSWERS)
]
FilterTypes = Annotated[
    bool,
    typer.Option(
        "--filter-types",
        help="Only entities that train has on that side of the relation.",
        rich_help_panel=ANSWERS,
    ),
]
Types = Annotated[
    Path | None,
    typer.Option(
        help="Table with a column of labels and one of types: only entities of a type that train "
        "has on that side of the relation. FILE:ID,TYPE names the columns.",
        show_default=False,
        rich_help_panel=ANSWERS,
    ),
]
AnyType = Annotated[
    bool,
    typer.Option(
        "--any-type",
        help="Also answers that the known facts speak against, such as a person as its own "
        "husband.",
        rich_help_panel=ANSWERS,
    ),
]
AssumedMissing = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        help="Number of facts that the graph lacks, at least 1, which probabilities assume; by "
        "default as many as valid and test hold.",
        show_default=False,
        rich_help_panel=ANSWERS,
    ),
]
AnswersFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File for the answers: .tsv, .jsonl, .parquet or .nt.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="tsv, csv, parquet, jsonl (or a JSON array), ntriples, nquads, turtle, trig, rdfxml, "
        "jsonld or dgl; by default from the file name.",
        show_default=False,
        rich_help_panel=READING,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Columns of head, relation and tail, in this order: names, or numbers from 1. A "
        "fourth is the weight of each triple, from 0 to 1.",
        metavar="NAME,NAME,NAME",
        show_default=False,
        rich_help_panel=READING,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Separator between the columns; by default inferred.",
        show_default=False,
        rich_help_panel=READING,
    ),
]
Truth = Annotated[
    str | None,
    typer.Option(
        help="Column that is 1 for a fact and -1 or 0 for a negative; none: there is no such "
        "column.",
        metavar="COLUMN",
        show_default=False,
        rich_help_panel=READING,
    ),
]
SkipBadLines = Annotated[
    bool,
    typer.Option(
        "--skip-bad-lines",
        help="Leave out lines that are not triples; convert and split list them in bad_lines.tsv.",
        rich_help_panel=READING,
    ),
]
MergeLabels = Annotated[
    str | None,
    typer.Option(
        help="Merge labels that differ only in blanks; with unicode, also in Unicode form; with "
        "case, also in case. The most frequent stays.",
        metavar="LEVEL",
        show_default=False,
        rich_help_panel=READING,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what an earlier command wrote there.", rich_help_panel=OUTPUT
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns; by default inferred.",
        show_default=False,
        rich_help_panel=READING,
    ),
]


def refuse_unused(
    context: typer.Context,
    mode: str,
    uses: Mapping[str, tuple[str, ...]],
    hints: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Refuse arguments that a mode of the command does not use; then show its progress.

    Args:
        context: the command's context.
        mode: the chosen mode, such as `--task links`.
        uses: parameter → the modes that use it; all modes use a parameter that is not listed.
        hints: parameter → what to do in place of it, for the message.

    Raises:
        ConfigError: for the first such argument.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        modes = uses.get(parameter.name or "", (mode,))
        if mode not in modes and source is not None and source.name == "COMMANDLINE":
            first = parameter.opts[0]
            name = first if first.startswith("-") else first.upper()
            hint = hints.get(parameter.name or "", f"it goes with {', '.join(modes)}")
            raise ConfigError(f"{name} does not go with {mode}. Remedy: leave it out; {hint}.")
    context.with_resource(_progress(context.info_name or ""))


def reading_of(
    format: str | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    **others: Any,
) -> Reading:
    """How to read files of triples, from the options; `others` are further fields of `Reading`."""
    from kgtool.data.loaders.reading import Reading

    names = None if columns is None else names_of(columns)
    return Reading(format, names, "\t" if delimiter == "\\t" else delimiter, header, **others)


def data_with(data: Path | None, features: list[Path] | None) -> Path | KGDataset | None:
    """The data of a command, with --features of its entities.

    Raises:
        ConfigError: for features without other data: a run has the features of its own.
    """
    if not features:
        return data
    if data is None:
        raise ConfigError(
            "--features goes with --data: a run keeps the features of its own data. Remedy: pass "
            "the data too"
        )
    from kgtool.data.loaders import load_dataset

    return load_dataset(data, features=[str(path) for path in features])


def chosen_settings(
    dataset: KGDataset, minutes: float | None, overrides: Sequence[str]
) -> ChosenSettings:
    """The settings that `kgtool.training.automatic` chooses for a data set, with progress."""
    from kgtool.training.automatic import MINUTES, choose_settings

    minutes = MINUTES if minutes is None else minutes
    return choose_settings(dataset, minutes=minutes, overrides=overrides, progress=True)


def names_of(columns: str) -> tuple[str, ...]:
    """The columns of an option like `year,pmid`."""
    return tuple(name.strip() for name in columns.split(","))


def known_split(split: str, splits: tuple[str, ...] = ("train", "valid", "test")) -> str:
    """The name of a split.

    Raises:
        ConfigError: for any other name.
    """
    from kgtool.data.dataset import check_split

    check_split(split, splits)
    return split


def cut_offs(text: str) -> tuple[int, ...]:
    """The k of Hits@k, from an option like `1,3,10`."""
    return whole_numbers("--hits", text, "1,3,10")


def whole_numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    """The positive numbers of an option like `1,3,10`, without duplicates.

    Raises:
        ConfigError: for anything else.
    """
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise ConfigError(f"{option} {text}: not whole numbers above 0. Remedy: as in {example}")
    return tuple(dict.fromkeys(map(int, numbers)))


def on_terminal() -> bool:
    """Whether a person reads the output: it is not piped or written to a file."""
    return sys.stdout.isatty()


def data_of(named: str | None, config: str | Path | None) -> str:
    """The data set that a configuration names, or --data.

    Raises:
        ConfigError: if neither does.
    """
    if named is None and config is None:
        raise ConfigError(
            "neither a configuration nor data are given. Remedy: pass a configuration, such as "
            "configs/families.toml, or --data PATH, for which settings are chosen."
        )
    if named is None:
        raise ConfigError(f"{config} names no data set. Remedy: pass --data PATH or set data=PATH")
    return named


def print_next(*words: object, **options: object) -> None:
    """Print the command that usually follows, ready to be copied; only on a terminal.

    Args:
        words: the command and its arguments.
        options: options by name, as in `data="kg"`; a list repeats one, None leaves it out.
    """
    if not on_terminal():
        return
    line = [str(word) for word in words]
    flags = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            flags += [] if each is None else [f"--{name}", str(each)]
    if any(word.startswith("-") for word in line):  # a label that looks like an option
        line = [line[0], *flags, "--", *line[1:]]
    else:
        line += flags
    typer.echo(f"Next: kgtool {harmless(shlex.join(line))}")
