"""How the loaders word an error: the place, the problem, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from kgtool.errors import DataError

_LONGEST_QUOTE = 60


def fault(place: object, problem: str, remedy: str, line: int | None = None) -> DataError:
    """The error for a fault in the input.

    Args:
        place: the file, folder or archive.
        problem: what is wrong, without a full stop.
        remedy: what the user can do about it, without a full stop.
        line: the line of the file, counted from 1.
    """
    where = f"{place}" if line is None else f"{place}, line {line}"
    return DataError(f"{where}: {problem}. Remedy: {remedy}.")


def quoted(text: str | bytes) -> str:
    """Input text in quotes, shortened, unprintable characters escaped: safe on a terminal."""
    if isinstance(text, bytes):
        text = text[: 4 * _LONGEST_QUOTE + 4].decode(errors="replace")
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where none is like it."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return matches[0] if matches else None
