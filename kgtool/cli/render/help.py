"""The help of a command, as wide as the terminal: usage, description, panels of options, examples.

Names and descriptions of options stand side by side, or below each other on a narrow terminal. An
example that does not fit breaks between its words, so that it can be copied from any terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

ARGUMENTS, OPTIONS = "Arguments", "Options"
NARROW = 72  # columns; below, descriptions stand under the names
# Part of the name of a type → what stands for a value.
VALUES = {"path": "PATH", "int": "NUMBER", "float": "NUMBER"}


def print_help(command: Any, context: Any) -> None:
    """Print the help of a command.

    Args:
        command: the command; its epilog has an example a line.
        context: its context.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    usage = context.command_path
    console.print(Text.assemble("Usage: ", (usage, "bold"), " ", _usage(command, context)))
    for paragraph in (command.help or "").split("\n\n"):
        console.print()
        console.print(Text(paragraph))
    console.print()
    panels: dict[str, list[Any]] = {ARGUMENTS: [], OPTIONS: []}
    for parameter in command.get_params(context):
        if not getattr(parameter, "hidden", False):
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            panels.setdefault(panel or (ARGUMENTS if is_argument else OPTIONS), []).append(
                parameter
            )
    for title, parameters in panels.items():
        if parameters:
            rows = [(_name(parameter, context), _meaning(parameter)) for parameter in parameters]
            table = _table(rows, console.width)
            console.print(Panel(table, title=title, title_align="left", border_style="dim"))
    examples = (command.epilog or "").split("\n\n")
    for example in filter(None, examples):
        for line in broken(example, console.width):
            console.print(Text(line))


def _usage(command: Any, context: Any) -> str:
    return " ".join(command.collect_usage_pieces(context))


def _table(rows: Iterable[tuple[Text, Text]], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    if width < NARROW:
        table.add_column(overflow="fold")
        for name, meaning in rows:
            table.add_row(name)
            table.add_row(Padding(meaning, (0, 0, 0, 4)))
        return table
    table.add_column(overflow="fold", max_width=width // 3)
    table.add_column(overflow="fold", ratio=1)
    for name, meaning in rows:
        table.add_row(name, meaning)
    return table


def _name(parameter: Any, context: Any) -> Text:
    """The names of an option with its value, or the name of an argument."""
    if parameter.param_type_name == "argument":
        return Text(parameter.metavar or parameter.name.upper(), style="bold")
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else parameter.metavar or _value(parameter, context)
    return Text.assemble((names, "bold"), f" {value}" if value else "")


def _value(parameter: Any, context: Any) -> str:
    kind = getattr(parameter, "type", None)  # of older versions of Typer
    name = (kind.name if kind else parameter.display_type(context)).lower()
    return next((value for part, value in VALUES.items() if part in name), "TEXT")


def _meaning(parameter: Any) -> Text:
    """The description of a parameter, its limits and its default."""
    text = Text(parameter.help or "")
    notes = [_limits(parameter)]
    default = parameter.default
    if parameter.required:
        notes.append("required")
    elif (
        parameter.show_default
        and str(default) not in ("None", "False", "()")
        and not callable(default)
    ):
        notes.append(f"default: {default}")
    if any(notes):
        text.append(f" [{'; '.join(filter(None, notes))}]", style="dim")
    return text


def _limits(parameter: Any) -> str:
    """The least and the most value of a number."""
    holder = getattr(parameter, "type", parameter)  # of older versions of Typer
    least, most = getattr(holder, "min", None), getattr(holder, "max", None)
    if least is None or most is None:
        return "" if least is None else f"at least {least}"
    return f"{least} to {most}"


def broken(command: str, width: int) -> list[str]:
    """The lines of a command line, each at most `width` wide where its words allow it.

    A line that goes on ends in a backslash. A quoted word stays whole.
    """
    lines = [""]
    for word in re.findall(r"(?:'[^']*'|[^\s'])+", command):
        longer = f"{lines[-1]} {word}" if lines[-1].strip() else f"{lines[-1]}{word}"
        if len(longer) + 2 <= width or not lines[-1].strip():
            lines[-1] = longer
        else:
            lines.append(f"    {word}")
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]
