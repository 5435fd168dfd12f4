"""Checks of the arguments of the public functions, by name, before any work starts.

A name means the same in each function, so one table holds for all: `checked` looks each argument up
in `CHECKS`. A default passes unchecked. Labels are checked where they are looked up.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from kgtool.config import Config
from kgtool.data.dataset import SPLITS, KGDataset, check_split
from kgtool.data.loaders import Reading
from kgtool.errors import (
    ConfigError,
    DataError,
    KGToolError,
    RunError,
    described,
    nearest,
    quoted,
)
from kgtool.inference.predictor import Predictor
from kgtool.ops import standard_state
from kgtool.runs.run import Run

P = ParamSpec("P")
R = TypeVar("R")
PathLike = (str, os.PathLike)


@dataclass(frozen=True)
class Check:
    """What a parameter takes.

    Attributes:
        fits: whether a value is of the right kind.
        expected: what to pass, for the remedy.
        error: the class of the error.
    """

    fits: Callable[[Any], bool]
    expected: str
    error: type[KGToolError] = ConfigError


def is_path(value: Any) -> bool:
    """Whether a value is a path; an empty text is not."""
    return isinstance(value, PathLike) and str(value) != ""


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number that is at least `least`."""
    return (
        isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least
    )


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    """Whether a value is a sequence whose items fit; a text is not."""
    if isinstance(value, (str, bytes, Mapping, pd.DataFrame)) or not hasattr(value, "__iter__"):
        return False
    return isinstance(value, (Sequence, np.ndarray, pd.Series)) and all(map(fits, value))


def _is_run(value: Any) -> bool:
    return isinstance(value, (Run, Predictor)) or is_path(value)


def _is_share(value: Any) -> bool:
    """Whether a value is a number; the functions check its range."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


_A_RUN = "a run, its folder, or a predictor from kgtool.open_predictor"
_DATA = "a data set, as kgtool.dataset_of and kgtool.split make it, or its path"
_FILE = Check(is_path, "the path of a file", DataError)
_POSITIVE = Check(lambda value: is_whole(value, 1), "a whole number from 1")
_SHARE = Check(_is_share, "a number above 0 and below 1")
_TEXT = Check(lambda value: isinstance(value, str) and value != "", "a text")
_TEXTS = Check(lambda value: _is_list(value, lambda item: isinstance(item, str)), "a list of texts")
_LABELS = Check(lambda value: _is_list(value, lambda _: True), "a list of labels")
_NUMBERS = Check(
    lambda value: _is_list(value, lambda item: is_whole(item, 1)) and len(value) > 0,
    "a list of whole numbers from 1",
)
_FLAG = Check(lambda value: isinstance(value, (bool, np.bool_)), "True or False")
_RUNS = Check(lambda value: _is_list(value, _is_run), "a list of runs or their folders", RunError)

CHECKS: dict[str, Check] = {
    "run": Check(_is_run, _A_RUN, RunError),
    "init_from": Check(_is_run, "a run or its folder", RunError),
    "runs": _RUNS,
    "ensemble": _RUNS,
    "config": Check(
        lambda value: isinstance(value, (Config, Mapping)) or is_path(value),
        "a Config, a dictionary of settings, a TOML file, or the name of a preset",
    ),
    "data": Check(lambda value: isinstance(value, KGDataset) or is_path(value), _DATA, DataError),
    "dataset": Check(
        lambda value: isinstance(value, KGDataset) or is_path(value), _DATA, DataError
    ),
    "split": Check(lambda value: value in SPLITS, f"one of {', '.join(SPLITS)}"),
    "reading": Check(lambda value: isinstance(value, Reading), "a kgtool.Reading"),
    "out": Check(is_path, "a path to write to"),
    "place": Check(is_path, "the path of a data set", DataError),
    "labels": _FILE,
    "types": _FILE,
    "time": _TEXT,
    "name": _TEXT,
    "url": _TEXT,
    "to": _TEXT,
    "host": _TEXT,
    "candidates": _TEXT,
    "formats": _TEXTS,
    "part": _TEXT,
    "track": Check(
        lambda value: _TEXT.fits(value) or _TEXTS.fits(value), "the name of a tracker, or several"
    ),
    "keep_columns": _TEXTS,
    **dict.fromkeys(("walk", "relations"), _LABELS),
    "port": Check(lambda value: is_whole(value, 0) and value < 2**16, "a number from 0 to 65535"),
    "space": Check(
        lambda value: isinstance(value, Mapping), "a dictionary, as in {'dim': [16, 32]}"
    ),
    "minutes": Check(lambda value: _is_share(value) and value > 0, "a number above 0"),
    "echo": Check(callable, "a function of one text"),
    "seed": Check(lambda value: is_whole(value, 0), "a whole number from 0"),
    **dict.fromkeys(
        ("top", "num_walks", "num_queries", "max_answers", "max_length", "trials"),
        _POSITIVE,
    ),
    **dict.fromkeys(("hits", "lengths"), _NUMBERS),
    **dict.fromkeys(("valid", "test", "inductive", "remove_leaks"), _SHARE),
    **dict.fromkeys(
        (
            "resume",
            "progress",
            "include_known",
            "filter_types",
            "sample_negatives",
            "compose",
            "allow_unseen",
            "any_type",
            "strict",
            "overwrite",
        ),
        _FLAG,
    ),
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which first compares its arguments with `CHECKS`.

    Raises:
        KGToolError: for an argument of another kind; the message names it and what to pass.
        ConfigError: for the name of an argument that the function does not have.
    """
    parameters = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs.keys() - parameters.parameters.keys():
            raise _unknown(function.__name__, name, list(parameters.parameters))
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            check = CHECKS.get(name)
            if check and value is not parameters.parameters[name].default:
                _check(name, value, check)
        with standard_state():
            return function(*args, **kwargs)

    return call


def _unknown(function: str, name: str, known: Sequence[str]) -> ConfigError:
    """The error for an argument that a function does not have."""
    like = nearest(name, known)
    hint = f" (did you mean {quoted(like)}?)" if like else ""
    return ConfigError(
        f"kgtool.{function} has no argument {quoted(name)}{hint}. Remedy: its arguments are "
        f"{', '.join(known)}."
    )


def _check(name: str, value: Any, check: Check) -> None:
    try:
        fits = check.fits(value)
    except (TypeError, ValueError):  # such as a comparison with an array
        fits = False
    if not fits and name == "split":
        check_split(value)
    if not fits:
        raise check.error(f"{name} is {described(value)}. Remedy: pass {check.expected}.")
