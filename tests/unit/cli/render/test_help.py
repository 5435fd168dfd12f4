"""Examples of the help: they fit the terminal and can be copied."""

from __future__ import annotations

import shlex

import pytest

from kgtool.cli.render.help import broken

LINE = "kgtool predict runs/mine --labels 'my names.tsv' HEAD RELATION '?' --top 20"


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_an_example_that_breaks_is_the_same_command(width):
    lines = broken(LINE, width)
    assert max(map(len, lines)) <= width
    assert (len(lines) == 1) == (width > len(LINE))
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(LINE)


def test_a_word_wider_than_the_terminal_stays_whole():
    assert broken("kgtool " + 30 * "x", 20) == ["kgtool \\", "    " + 30 * "x"]
