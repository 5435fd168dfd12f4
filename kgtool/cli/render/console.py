"""A console that prints untrusted labels safely, on terminals of any width and encoding."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.containers import Lines
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
# A wide word may break behind these signs.
SIGNS = "_/-.,:;|#&=+"
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


class _Folded(Text):
    """A text that breaks between words, else behind a sign such as `_`, never within a number."""

    @classmethod
    def of(cls, text: Text) -> _Folded:
        """The same text and styles."""
        new = cls(
            text.plain, text.style, justify=text.justify, overflow=text.overflow,
            no_wrap=text.no_wrap, end=text.end, tab_size=text.tab_size, spans=list(text.spans),
        )  # fmt: skip
        return new

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """The lines of at most `width` cells; a word that is wider breaks at `folds`."""
        overflow = options.get("overflow") or self.overflow or "fold"
        if options.get("no_wrap") or self.no_wrap or overflow != "fold" or width < 1:
            return super().wrap(console, width, **options)
        lines = Lines()
        for line in self.split(allow_blank=True):
            line.expand_tabs()
            parts = line.divide(folds(line.plain, width))
            for part in parts:
                part.rstrip_end(width)
            justify = options.get("justify") or self.justify or "default"
            parts.justify(console, width, justify=justify, overflow="fold")
            lines.extend(parts)
        return lines


def folds(text: str, width: int) -> list[int]:
    """The positions where a line of text breaks, so that no part is wider than `width` cells.

    A part ends at a blank; or within a wide word behind a sign such as `_`, before a number, or
    where it must. Only a number that is wider than a line breaks itself.
    """
    found: list[int] = []
    begin = 0
    while cell_len(text[begin:].rstrip()) > width:
        end = begin + 1
        while end < len(text) and cell_len(text[begin : end + 1]) <= width:
            end += 1
        begin = _fold(text, begin, end)
        found.append(begin)
    return found


def _fold(text: str, begin: int, most: int) -> int:
    """Where a line from `begin` ends; `most` characters of the text fit."""
    blanks = [end for end in range(begin + 1, most + 1) if text[end - 1].isspace()]
    if most < len(text) and text[most].isspace():  # a blank at the end needs no cell
        blanks.append(most + 1)
    if blanks:
        return blanks[-1]
    signs = [end for end in range(begin + 1, most + 1) if _is_sign(text, end - 1)]
    if signs:
        return signs[-1]
    end = most
    while end > begin and text[end - 1].isdigit() and text[end].isdigit():
        end -= 1
    return end if end > begin else most


def _is_sign(text: str, place: int) -> bool:
    """Whether a word may break behind a character; not within 3.14 or 2023-01-05."""
    between_digits = text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit()
    return text[place] == "_" or (text[place] in SIGNS and not between_digits)


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
            if isinstance(renderable, Text):
                renderable = _Folded.of(renderable)
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
