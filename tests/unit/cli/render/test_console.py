"""Tables at all widths and encodings."""

from __future__ import annotations

import io
import sys

import pytest
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.cli.render.console import Terminal, print_any_label

NUMBERS = ("0.9732", "12,345.6", "<0.001")
LABELS = ("Ada_Lindqvist_1874", "maternal_grandmother_of", "\u4e2d\u0444 \u2192 \u2026")


def table() -> Group:
    found = Table(title=Text("\u4e2d title"), box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("MRR", "MR", "P"):
        found.add_column(name, justify="right")
    for name in ("head", "relation", "tail"):
        found.add_column(name, overflow="fold")
    for _ in range(3):
        found.add_row(*NUMBERS, *(Text(label) for label in LABELS))
    return Group(found, Text("a note \u2026"))


def printed(monkeypatch, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    print_any_label()
    Terminal().print(table())
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [30, 40, 50, 65, 80, 120])
def test_numbers_are_never_cut(monkeypatch, width):
    text = printed(monkeypatch, width)
    for number in NUMBERS:
        assert text.count(number) == 3
    assert max(map(len, text.splitlines())) <= width
    joined = "".join(text.split())
    assert all("".join(label.split()) in joined for label in LABELS if width in (30, 120))


def test_a_narrow_table_is_a_list(monkeypatch):
    lines = [line.split() for line in printed(monkeypatch, 50).splitlines()]
    assert ["MR", "12,345.6"] in lines
    assert ["head", "Ada_Lindqvist_1874"] in lines
    wide = [line.split() for line in printed(monkeypatch, 120).splitlines()]
    assert [*NUMBERS, *LABELS[:2], *LABELS[2].split()] in wide


def test_a_long_first_column_folds_before_the_table_becomes_a_list(monkeypatch):
    found = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    found.add_column("", no_wrap=True)
    for name in ("train", "valid", "test"):
        found.add_column(name, justify="right")
    found.add_row("relations unseen in train", *NUMBERS)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "48")
    Terminal().print(found)
    lines = stream.getvalue().splitlines()
    assert any(all(number in line for number in NUMBERS) for line in lines)
    words = " ".join(stream.getvalue().split())
    assert all(word in words for word in ("relations", "unseen", "train"))
    assert "\u2026" not in words


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_columns_stay_aligned_in_other_encodings(monkeypatch, encoding):
    lines = printed(monkeypatch, 120, encoding).splitlines()
    rows = [line.rstrip() for line in lines if NUMBERS[1] in line]
    assert len(rows) == 3
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    assert all("\\u4e2d\\u0444 -> " in row for row in rows)


def test_a_stream_without_reconfigure_is_left_alone(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    print_any_label()
    Terminal().print(table())
    assert LABELS[2] in stream.getvalue()
