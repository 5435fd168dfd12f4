"""The errors that a user may see. A message gives the place, the problem and the remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class KGToolError(Exception):
    """An error for the user. The command line prints the message and exits with `exit_code`."""

    exit_code = 1


class DataError(KGToolError):
    """Invalid input data. The message names the file, the line and the remedy.

    Attributes:
        problem: the problem alone, if `fault` made the error.
    """

    exit_code = 2
    problem = ""


class ConfigError(KGToolError):
    """An invalid configuration. The message names the key and the nearest valid key."""

    exit_code = 2


class RunError(KGToolError):
    """A run folder that is missing, incomplete, damaged or does not fit the data."""

    exit_code = 2


class FetchError(KGToolError):
    """A failed download. The message names the address and the reason."""


class TrainingError(KGToolError):
    """Training cannot continue, for example because the loss is not finite."""


class KGToolWarning(UserWarning):
    """A result that the user may take for another one. The command line prints the message."""


class ScoreError(KGToolError):
    """Scores are NaN or infinite and cannot be ranked. The message names the query."""


_LONGEST_QUOTE = 60


def fault(place: object, problem: str, remedy: str, line: int | None = None) -> DataError:
    """The error for a fault in the input data.

    Args:
        place: the file, folder or archive.
        problem: the problem, without a full stop.
        remedy: what the user can do, without a full stop.
        line: the line of the file, counted from 1.
    """
    where = f"{place}" if line is None else f"{place}, line {line}"
    error = DataError(f"{where}: {problem}. Remedy: {remedy}.")
    error.problem = problem
    return error


def quoted(text: str | bytes) -> str:
    """Input text in quotes, shortened, unprintable characters escaped: safe on a terminal."""
    if isinstance(text, bytes):
        text = text[: 4 * _LONGEST_QUOTE + 4].decode(errors="replace")
    return repr(text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…")


def described(value: Any) -> str:
    """A value in an error: itself if it is short, else its type."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (str, bytes)):
        return quoted(value)
    if isinstance(value, (list, tuple)) and len(repr(value)) <= 60:
        return repr(value)
    return f"of the type {type(value).__name__}"


def path_of(
    value: object, argument: str, error: type[KGToolError] = DataError, expected: str = "a path"
) -> Path:
    """A path from what a caller passes for an argument.

    Raises:
        KGToolError: of the class `error`, for a value that is not a path.
    """
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    kind = type(value).__name__
    raise error(f"{argument} is of the type {kind}. Remedy: pass {expected}.")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, or None if none is similar."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return matches[0] if matches else None


class Interrupted(KeyboardInterrupt):
    """A signal stopped the work; its state has been saved."""


# Control characters except the line end, bidirectional controls, and lone surrogates.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text with `�` for each character that controls a terminal or cannot be shown."""
    return _CONTROLS.sub("�", text)
