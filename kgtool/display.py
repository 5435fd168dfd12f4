"""How objects look in a notebook: data frames, and HTML with the notebook's own colours.

Rooms that read no files make their data frames here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame as DataFrame  # for the rooms that do not import pandas
    from pandas import Series

# Rows of a table in a notebook.
ROWS = 10
_TEXT = 'style="text-align: left"'


def frame_of(columns: Mapping[str, Any], texts: Sequence[str] = ()) -> DataFrame:
    """A data frame of these columns; `texts` names those that hold texts, also if empty."""
    import pandas as pd

    return pd.DataFrame(columns).astype(dict.fromkeys(texts, str))


def html(title: str, *parts: Mapping[str, Any] | DataFrame) -> str:
    """A title above tables.

    Args:
        title: plain text.
        parts: a mapping is a table of two columns without a header. Of a data frame, the first
            `ROWS` rows are shown; whole numbers have thousands separators, others four digits.
    """
    tables = [_fields(part) if isinstance(part, Mapping) else _frame(part) for part in parts]
    return "\n".join([f"<div><strong>{escape(title)}</strong>", *tables, "</div>"])


def shown(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return str(value)


def _fields(fields: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th {_TEXT}>{escape(name)}</th><td {_TEXT}>{escape(shown(value))}</td></tr>"
        for name, value in fields.items()
    )
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _frame(frame: DataFrame) -> str:
    texts = {name for name in frame if not _is_number(frame[name])}

    def cell(tag: str, name: Any, value: Any) -> str:
        return f"<{tag}{f' {_TEXT}' if name in texts else ''}>{escape(shown(value))}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", name, str(name)) for name in frame) + "</tr>"]
    for row in frame.head(ROWS).itertuples(index=False, name=None):
        cells = (cell("td", name, value) for name, value in zip(frame, row, strict=True))
        lines.append("<tr>" + "".join(cells) + "</tr>")
    more = len(frame) - ROWS
    note = f"\n<small>and {more:,} more</small>" if more > 0 else ""
    return "<table>\n" + "\n".join(lines) + "\n</table>" + note


def _is_number(column: Series) -> bool:
    return column.dtype.kind in "iuf"
