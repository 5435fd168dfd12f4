"""Tables at all widths and encodings."""

from __future__ import annotations

import io
import re
import sys
from itertools import pairwise

import pandas as pd
import pytest
from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.cli.render.answers import answers_table, completion_table, meaning
from kgtool.cli.render.console import Terminal, _Folded, folds, print_any_label
from kgtool.data.dataset import Vocabulary
from kgtool.data.labels import LabelIndex

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


@pytest.mark.parametrize(
    ("text", "width", "parts"),
    [
        ("Maria_Gonzalez_1923", 12, ["Maria_", "Gonzalez_", "1923"]),
        ("Maria_Gonzalez_1923", 16, ["Maria_Gonzalez_", "1923"]),
        ("Maria Gonzalez_1923", 14, ["Maria ", "Gonzalez_1923"]),
        ("averyverylongname1923", 19, ["averyverylongname", "1923"]),
        ("born_2023-01-05", 12, ["born_", "2023-01-05"]),
        ("weight:3.14159", 12, ["weight:", "3.14159"]),
        ("1234567890", 4, ["1234", "5678", "90"]),  # a number wider than the line
        ("\u65e5\u672c\u8a9e_1999", 6, ["\u65e5\u672c\u8a9e", "_1999"]),
        ("one two", 3, ["one ", "two"]),
        ("", 5, [""]),
    ],
)
def test_long_names_break_between_words(text, width, parts):
    places = [0, *folds(text, width), len(text)]
    found = [text[a:b] for a, b in pairwise(places)]
    assert found == parts
    assert all(cell_len(part.rstrip()) <= width for part in found)


@pytest.mark.parametrize("width", [50, 80])
def test_a_year_in_a_name_is_never_cut(monkeypatch, width):
    names = [f"{'Maria_Gonzalez_' * n}{1923 + n}" for n in range(1, 6)]
    found = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("P", "score"):
        found.add_column(name, justify="right", no_wrap=True)
    for name in ("head", "relation", "tail"):
        found.add_column(name, overflow="fold")
    for name in names:
        found.add_row("0.123", "-1.5", Text(name), Text("maternal_grandmother_of"), Text(name))
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    Terminal().print(found, Text("In the graph: " + ", ".join(names)))
    text = stream.getvalue()
    assert all(text.count(name[-4:]) == 3 for name in names)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in ("Maria_", "Gonzalez_", "") for word in re.findall(r"[A-Z]\w*?_", text))


@pytest.mark.parametrize("width", [7, 20])
def test_folded_text_keeps_its_style_and_lines(width):
    text = Text("ab_cd 1923\n\nxyz", "dim")
    text.stylize("bold", 0, 2)
    lines = _Folded.of(text).wrap(Terminal(), width)
    joined = ["ab_cd 1923"] if width == 20 else ["ab_cd ", "1923"]
    assert [line.plain for line in lines] == [*joined, "", "xyz"]
    assert str(lines[0].spans[0].style) == "bold"


def answers(*chances: float, known: str = "") -> str:
    columns = {
        "question": 0, "asked": "tail", "head": "a", "relation": "r",
        "tail": [f"t{i}" for i in range(len(chances))], "score": 1.0, "probability": chances,
        "known": [known] + [""] * (len(chances) - 1),
    }  # fmt: skip
    frame = pd.DataFrame(columns)
    frame.attrs["left_out"] = [{"known": 1, "examples": ["k"], "types": 0}]
    labels = LabelIndex(Vocabulary(("a",), ("r",)))
    console = Terminal()
    with console.capture() as captured:
        console.print(answers_table(frame, [["a", "r", "?"]], labels, meaning(3, False)))
    return " ".join(captured.get().split())


def test_a_poor_answer_does_not_look_like_a_discovery():
    folded = "No new answer has P of 0.01 or more; --out FILE.tsv writes the"
    poor = answers(*[0.0099] * 10)
    assert f"{folded} 10 candidates." in poor
    assert "t0" not in poor
    assert "In the graph: k." in poor
    assert f"{folded} candidate." in answers(0.001)
    mixed = answers(0.01, 0.009)
    assert folded not in mixed
    assert "0.010 1.000 t0" in mixed
    assert "P below 0.01: t1" in mixed
    with_known = answers(float("nan"), 0.002, 0.001, known="train")
    assert "in train" in with_known
    assert f"{folded} 2 candidates." in with_known
    assert "t1" not in with_known
    assert folded not in answers(float("nan"), float("nan"))  # no calibration: scores


def test_a_completion_without_a_likely_triple_says_so():
    frame = pd.DataFrame(
        {"head": ["a"] * 3, "relation": "r", "tail": "b", "probability": [0.004] * 3}
    )
    labels = LabelIndex(Vocabulary(("a",), ("r",)))
    console = Terminal()
    for chances, line in (
        ([0.004] * 3, "No new triple has P of 0.01 or more; --out FILE.tsv writes the 3 cand"),
        ([0.4, 0.004, 0.004], "2 more with P below 0.01."),
    ):
        with console.capture() as captured:
            table = completion_table(frame.assign(probability=chances), labels, 9, Text("note"))
            console.print(table)
        assert line in captured.get()
