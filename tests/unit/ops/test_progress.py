"""Progress: a bar where somebody watches, lines elsewhere, and nothing unless it is asked for."""

from __future__ import annotations

import re
import time

import numba
import pytest

from kgtool.ops import Progress, show_progress
from kgtool.ops.runtime import progress


@pytest.fixture(autouse=True)
def _off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "is_watched", lambda: False)
    monkeypatch.setattr(progress, "EVERY", 0.05)


def test_nothing_is_shown_unasked(capfd):
    with Progress(2, "test", "query") as bar:
        time.sleep(0.1)
        bar.update()
    assert capfd.readouterr() == ("", "")


def test_work_without_a_bar_shows_that_it_goes_on(capfd):
    with show_progress("export"):
        time.sleep(1)
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) > 1
    assert all(re.fullmatch(r"export: working, 0:\d\d so far", line) for line in err.splitlines())
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


def test_the_work_of_a_command_is_shown_without_the_work_inside_it(capfd):
    with show_progress("evaluate"), Progress(4, "test", "query") as bar:
        time.sleep(0.1)
        with Progress(2, "inner", "part", shown=True) as inner:
            inner.update()
        bar.update(2, {"loss": "0.5"})
        time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("test: query ") for line in lines)
    assert any(line.startswith("test: query 2 of 4 (50 %), loss 0.5, 0:0") for line in lines)


def test_a_bar_is_drawn_where_somebody_watches(monkeypatch, capfd):
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    with Progress(2, "test", "query", shown=True) as bar:
        bar.stage("compiling kernels")
        bar.stage(None)
        bar.rename("other")
        bar.update(2, {"loss": "0.5"})
    err = capfd.readouterr().err
    assert "compiling kernels:" in err
    assert re.search(r"\rother: 100%\|.*\| 2/2 \[.*, loss=0\.5\]", err)


def test_compilation_is_announced_once(monkeypatch, capfd):
    monkeypatch.setattr(progress._shown, "announced", False)
    with show_progress("predict"):
        for number in (1, 2):
            numba.njit(lambda x, y=number: x + y)(1)
    assert capfd.readouterr().err.count("compiling kernels") == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3725, "1:02:05")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text
