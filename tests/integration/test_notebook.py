"""The notebook of the documentation runs from the first cell to the last."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT

NOTEBOOK = ROOT / "docs" / "start" / "notebook.ipynb"
LONGEST = 10_000  # characters of what a cell shows


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shown_by(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, if that is an expression."""
    *lines, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, NOTEBOOK.name, "exec"), names)
        return None
    exec(compile(ast.Module(lines, []), NOTEBOOK.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for source in code_cells():
        value = shown_by(source, names)
        assert value is not None, "each cell shows something"
        assert len(repr(value)) < LONGEST
        assert len(getattr(value, "_repr_html_", str)()) < LONGEST
    assert names["result"].mrr > 0.2
    assert names["why"].paths
    assert all(file.is_file() for file in names["files"])
    path = names["why"].to_frame()["path"][0]
    assert "lives_in" in path
    assert "located_in" in path


def test_the_notebook_has_no_outputs_and_is_small() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell.get("outputs", []) == [] for cell in cells)
    assert NOTEBOOK.stat().st_size < 20_000
