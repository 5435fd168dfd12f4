"""Functions take few positional arguments: beyond five, an argument is passed by its name."""

from __future__ import annotations

import ast

import pytest

from tests.unit.test_layout import MODULES

MOST = 5
# Compiled kernels take arrays by place, and commands read their parameters by name.
EXEMPT = ("kgtool.ops", "kgtool.cli", "kgtool.graph.sampling")


def positional(source: str) -> dict[str, int]:
    """The number of arguments that each function of a module takes by place, self not counted."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
            own = len(names) - (names[:1] in (["self"], ["cls"]))
            found[f"{node.name}:{node.lineno}"] = own
    return found


def test_positional_arguments_are_counted():
    source = "class A:\n def f(self, a, b, /, c, *rest, d): ...\nasync def g(a, *, b): ...\n"
    assert positional(source) == {"f:2": 3, "g:3": 1}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith(EXEMPT)))
def test_functions_take_few_positional_arguments(module):
    counts = positional(MODULES[module].read_text(encoding="utf-8"))
    assert {name: count for name, count in counts.items() if count > MOST} == {}
