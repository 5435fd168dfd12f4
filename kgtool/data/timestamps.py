"""Orders timestamps: numbers by value, ISO 8601 dates by text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from kgtool.errors import DataError, quoted

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
# A year or a longer date, without a time zone offset: such texts sort in the order of time.
_DATE = re.compile(
    r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?Z?)?)?)?",
    re.ASCII,
)


def rank_timestamps(texts: Sequence[str], place: str) -> Tensor:
    """The rank of each timestamp among all of them.

    Args:
        texts: all numbers, such as 12, -0.5 and 1e9, or all ISO 8601 dates without an offset, such
            as 2014, 2014-05-01 and 2014-05-01T09:30:00Z. A date comes before its extensions.
        place: the source of the texts, for errors.

    Returns:
        `(n,)` int64, numbered from 0 in order, without gaps; equal times have equal numbers.

    Raises:
        DataError: for a text that is neither a number nor a date, or that differs in kind from the
            others; it names the first one.
    """
    distinct = dict.fromkeys(texts)
    values: dict[str, Any]
    if all(map(_NUMBER.fullmatch, distinct)):
        values = {text: Decimal(text) for text in distinct}
    else:
        odd = next((text for text in distinct if not _DATE.fullmatch(text)), None)
        if odd is not None:
            raise DataError(
                f"{place}: the time {quoted(odd)} of triple {texts.index(odd) + 1} is not an ISO "
                "8601 date without an offset, and not all times are numbers. Remedy: write all "
                "times as numbers, or all as in 2014-05-01 or 2014-05-01T09:30:00."
            )
        values = {text: text.rstrip("Z").replace(" ", "T") for text in distinct}
    rank = {value: i for i, value in enumerate(sorted(set(values.values())))}
    return torch.tensor([rank[values[text]] for text in texts], dtype=torch.long)
