"""A console that prints untrusted labels safely, on terminals of any width and encoding."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from kgtool.errors import harmless

# Characters of kgtool's own texts, for encodings that lack them.
PLAIN = {
    "…": "...", "–": "-", "—": "-", "→": "->", "⇥": "<tab>", "×": "x", "·": "*", "⁻": "-", "¹": "1",
    "�": "?", "─": "-", "━": "-", "│": "|", "•": "*",
}  # fmt: skip
# The least width of a column of text; a table with less room becomes a list.
LEAST_TEXT = 12


def print_any_label() -> None:
    """Let standard output and error write all texts, whatever their encoding.

    A character that the encoding lacks becomes an ASCII one, or its code as in `\\u4e2d`.
    """
    codecs.register_error("kgtool", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's or a test's stream may lack it
            stream.reconfigure(errors="kgtool")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The handler of codecs for texts that cannot be encoded."""
    assert isinstance(error, UnicodeEncodeError)
    bad = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or _escaped(c) for c in bad), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")


class Terminal(Console):
    """A console that prints texts as they are, without control characters.

    It does not read [brackets] as markup, nor `:names:` as emoji. A table that has no room for its
    numbers becomes a list with a line per cell. Texts that the encoding lacks have their final
    width before tables are laid out.
    """

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, their texts harmless; styles are the console's own."""
        options = options or self.options
        if isinstance(renderable, Table):
            renderable = self._fitted(self._writable_table(renderable), options)
        elif isinstance(renderable, (str, Text)):
            renderable = self._writable(renderable)
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))

    def _writable(self, cell: Any) -> Any:
        """A text with only characters of the console's encoding; anything else as it is."""
        if isinstance(cell, str):
            return self._encodable(cell)
        if isinstance(cell, Text) and (plain := self._encodable(cell.plain)) != cell.plain:
            return Text(plain, cell.style, justify=cell.justify, overflow=cell.overflow)
        return cell

    def _encodable(self, text: str) -> str:
        """The text as the stream will show it."""
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            parts = (self._of_character(c) for c in text)
            return "".join(parts)
        return text

    def _of_character(self, character: str) -> str:
        try:
            character.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return PLAIN.get(character) or _escaped(character)
        return character

    def _writable_table(self, table: Table) -> Table:
        """The table, with cells that can be written; the same object if all can."""
        if self.encoding.startswith("utf"):
            return table
        new = copy(table)
        new.title = self._writable(table.title)
        new.columns = [
            replace(
                column,
                header=self._writable(column.header),
                _cells=[self._writable(cell) for cell in column.cells],
            )
            for column in table.columns
        ]
        return new

    def _fitted(self, table: Table, options: ConsoleOptions) -> Table:
        """The table, or one whose texts fold more, or a list, by the room that numbers leave."""
        full, least = 0, 0
        for column in table.columns:
            cells = [Measurement.get(self, options, cell).maximum for cell in column.cells]
            width = max([Measurement.get(self, options, column.header).minimum, *cells])
            full += width
            least += width if column.justify == "right" else min(width, LEAST_TEXT)
        _, right, _, left = table.padding
        count = len(table.columns)
        frame = (count + 1 if table.box else 0) + (left + right) * count
        if full + frame <= options.max_width:
            return table
        if least + frame > options.max_width:
            return _as_list(table)
        new = copy(table)
        new.columns = [
            replace(column, no_wrap=column.justify == "right", overflow="fold")
            for column in table.columns
        ]
        return new


def _as_list(table: Table) -> Table:
    """The cells of a table below each other, each after the name of its column."""
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    new = Table.grid(padding=(0, 1, 0, 0))
    new.title, new.title_justify = table.title, "left"
    new.add_column(overflow="fold")
    new.add_column(overflow="fold", ratio=1)
    for row in rows:
        for column, cell in zip(table.columns, row, strict=True):
            if str(cell):
                new.add_row(column.header, cell)
        new.add_row()
    return new
