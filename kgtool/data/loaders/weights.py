"""Weights of triples: confidences from 0 to 1, as texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kgtool.data.loaders.rows import Rows, no_triples
from kgtool.errors import fault, quoted

# Names that a column of weights may have, too. They are not read unasked, but pointed out.
MAY_BE_WEIGHT = {"weights", "confidence", "conf", "score", "probability", "prob", "certainty"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)


def weighted(
    rows: Rows,
    texts: Sequence[str],
    place: str,
    other: str = "drop the column",
    *,
    skip_bad: bool = False,
) -> Rows:
    """The rows with `weights`. Rows of the weight 0 are left out, with a note.

    Args:
        rows: the rows.
        texts: `n`, the weight of each row.
        place: the file, for errors.
        other: a remedy other than a weight from 0 to 1.
        skip_bad: leave out rows whose weight is not a number from 0 to 1, too.

    Raises:
        DataError: for a text that is not a number from 0 to 1, or if no row is left; it names the
            first such row.
    """
    values = {text: _weight_of(text) for text in dict.fromkeys(texts)}
    weights = np.array([values[text] for text in texts], np.float32)
    wrong = np.isnan(weights)
    rows = replace(rows, weights=weights)
    if wrong.any() and not skip_bad:
        row = int(wrong.argmax())
        raise fault(
            f"{place}, {rows.where(row)}",
            f"the weight is {quoted(texts[row])}, not a number from 0 to 1",
            f"write a confidence from 0 to 1, or {other}",
        )
    skipped = [
        (int(rows.numbers[row]), f"the weight is {quoted(texts[row])}")
        for row in np.flatnonzero(wrong).tolist()
    ]
    count = int(np.count_nonzero(weights == 0))
    notes = rows.notes
    if count:
        unit = rows.unit if count == 1 else f"{rows.unit}s"
        notes += (f"{place}: {count:,} {unit} of the weight 0 left out",)
    left = ~wrong & (weights > 0)
    if not left.any():
        raise no_triples(place, "all weights are 0" if count else "all lines are bad")
    if not left.all():
        rows = rows.select(left)
    return replace(rows, notes=notes, skipped=tuple(sorted([*rows.skipped, *skipped])))


def _weight_of(text: str) -> float:
    """The weight of a text, as float32; NaN if it is not a number from 0 to 1."""
    try:
        value = float(text) if _NUMBER.fullmatch(text.strip()) else np.nan
    except ValueError:
        return np.nan
    if not 0 <= value <= 1:
        return np.nan
    # A weight above 0 stays above 0 in float32.
    return max(value, float(np.finfo(np.float32).tiny)) if value else 0.0


def weight_hint(name: str) -> str:
    """A hint for a left-out column whose name is one of weights; else nothing."""
    if name.strip().casefold() not in MAY_BE_WEIGHT:
        return ""
    return f"{name} was not read; if it is a weight from 0 to 1, pass it as the fourth of --columns"
