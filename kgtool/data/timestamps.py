"""Texts of time in their order: numbers as numbers, dates of ISO 8601 by their text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from kgtool.errors import DataError, quoted

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
# A year, or more of a date, in one time zone: then texts sort as what they say.
_DATE = re.compile(
    r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?Z?)?)?)?",
    re.ASCII,
)


def moments(texts: Sequence[str], place: str) -> Tensor:
    """When each text is, among all of them.

    Args:
        texts: all numbers, as 12, -0.5 and 1e9, or all dates of ISO 8601 without an offset, as
            2014, 2014-05-01 and 2014-05-01T09:30:00Z. Less of a date comes before more of it.
        place: where they come from, for errors.

    Returns:
        `(n,)` int64, numbered from 0 in order, without gaps; the same where they say the same.

    Raises:
        DataError: for a text that is neither, or not like the others; it names the first.
    """
    known = dict.fromkeys(texts)
    meant: dict[str, Any]
    if all(map(_NUMBER.fullmatch, known)):
        meant = {text: Decimal(text) for text in known}
    else:
        odd = next((text for text in known if not _DATE.fullmatch(text)), None)
        if odd is not None:
            raise DataError(
                f"{place}: the time {quoted(odd)} of triple {texts.index(odd) + 1} is neither a "
                "number nor, like all others, a date of ISO 8601 without an offset. Remedy: write "
                "all times as numbers, or all as in 2014-05-01 or 2014-05-01T09:30:00."
            )
        meant = {text: text.rstrip("Z").replace(" ", "T") for text in known}
    rank = {value: i for i, value in enumerate(sorted(set(meant.values())))}
    return torch.tensor([rank[meant[text]] for text in texts], dtype=torch.long)
