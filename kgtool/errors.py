"""The errors a user can meet, and how they are worded: the place, the problem, the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class KGToolError(Exception):
    """A failure at work. The command line prints the message and exits with `exit_code`."""

    exit_code = 1


class DataError(KGToolError):
    """Input data that cannot be used: the message names file, line and remedy."""

    exit_code = 2


class ConfigError(KGToolError):
    """A configuration that cannot be used: the message names the key and the nearest right one."""

    exit_code = 2


class RunError(KGToolError):
    """A run folder that is missing, incomplete, damaged or does not fit the data."""

    exit_code = 2


class FetchError(KGToolError):
    """A data set that could not be fetched. The message names the address and the reason."""


class TrainingError(KGToolError):
    """Training that cannot go on, such as a loss that is not finite."""


class ScoreError(KGToolError):
    """Scores that cannot be ranked: NaN or infinite. The message names the query."""


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


class Interrupted(KeyboardInterrupt):
    """Work that a signal stopped, after what it had done was saved."""


# Characters of control but for the line end, and those that turn the order of others round.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text with `�` for what a terminal would obey or cannot show."""
    return _OBEYED.sub("�", text)
