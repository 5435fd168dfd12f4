"""The order of the rooms: imports flow one way, from data to the command line."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kgtool"

# A room may import from the lines above its own. A new module gets a place here.
ORDER = [
    {"errors", "ops"},
    {"meeting"},
    {"files", "signals", "triples", "config", "leakage", "processes"},
    {"registry", "run_log"},
    {"loaders", "graph", "counts", "splits", "kept"},
    {"moments", "division", "words"},
    {"questions"},
    {"shards"},
    {
        "neighbourhood",
        "queries",
        "decoder",
        "all_paths",
        "checkpoint",
        "optimizer",
        "regularizer",
    },
    {"encoder", "partition", "mapped"},
    {"walk_reader", "path_queries", "sweep", "scorers"},
    {"model"},
    {"build", "objective", "explain", "extend", "ranking", "perplexity", "walk_search"},
    {"metrics", "path_scores", "baselines", "candidates"},
    {"likelihood", "platt", "calibration", "expected", "similarity"},
    {"answers", "evaluator", "blend", "relation_prediction", "classification"},
    {"probability"},
    {"completion"},
    {"breakdown", "path_evaluator", "tables"},
    {"rank_files", "compare"},
    {"results"},
    {"terminal", "picture", "export", "run"},
    {"updates", "page", "predictor"},
    {"trainer"},
    {"service"},
    {"api"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
ENTRIES = {"kgtool", "kgtool.__main__"}  # the package itself and `python -m kgtool`
FILE_READING = {"kgtool.files", "kgtool.loaders", "pandas", "csv", "json", "zipfile", "tarfile"}


def module_name(path: Path) -> str:
    parts = ("kgtool", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source: str) -> set[str]:
    """The dotted names of all that a module imports, also inside functions.

    `from a import b` gives `a.b` where that is a module of the package, else `a`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            base = node.module or ""
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in MODULES else base)
    return found


@cache
def imports(module: str) -> frozenset[str]:
    return frozenset(imports_of(MODULES[module].read_text(encoding="utf-8")))


def room(module: str) -> str:
    return module.split(".")[1]


def reach(module: str) -> set[str]:
    """All that a module imports, over any number of steps inside the package."""
    found: set[str] = set()
    ahead = {module}
    while ahead:
        ahead = {name for one in ahead if one in MODULES for name in imports(one)} - found
        found |= ahead
    return found


def test_imports_are_read():
    source = (
        "import a.b\nfrom kgtool import graph\nfrom kgtool.ops import count_better as c\n"
        "def f():\n    from kgtool.errors import DataError, RunError\n"
    )
    assert imports_of(source) == {
        "a.b", "kgtool.graph", "kgtool.ops.count_better", "kgtool.errors",
    }  # fmt: skip
    assert "kgtool.trainer" in imports("kgtool.cli.training")  # inside a function
    assert "torch" in reach("kgtool.cli")


def test_every_module_has_a_place():
    assert {room(module) for module in set(MODULES) - ENTRIES} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(set(MODULES) - ENTRIES))
def test_imports_flow_one_way(module):
    here = room(module)
    for name in imports(module):
        if name.split(".")[0] != "kgtool":
            continue
        assert name != "kgtool", f"{module} imports the package as a whole"
        if room(name) != here:
            assert LEVEL[room(name)] < LEVEL[here], f"{module} imports {name}"


@pytest.mark.parametrize(
    "package", ["ops", "registry", "loaders", "export", "page", "service", "cli", "api"]
)
def test_imports_inside_a_package_make_no_circle(package):
    for module in MODULES:
        if module.startswith(f"kgtool.{package}."):
            assert module not in reach(module)
            assert f"kgtool.{package}" not in imports(module)


@pytest.mark.parametrize(
    "module", ["encoder", "decoder", "all_paths", "model", "graph", "ranking", "evaluator"]
)
def test_the_model_reads_no_files(module):
    read = {
        name
        for name in reach(f"kgtool.{module}")
        if any(name == reader or name.startswith(f"{reader}.") for reader in FILE_READING)
    }
    assert read == set()


def test_the_evaluator_knows_no_model():
    assert (
        reach("kgtool.evaluator")
        & {"kgtool.model", "kgtool.scorers", "kgtool.encoder", "kgtool.decoder", "kgtool.all_paths"}
        == set()
    )


def test_nobody_imports_the_command_line():
    for module in set(MODULES) - ENTRIES:
        if room(module) != "cli":
            assert "typer" not in imports(module)
            assert not any(room(name) == "cli" for name in imports(module) if name in MODULES)


def test_modules_are_named_after_what_they_do():
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert vague & {part for module in MODULES for part in module.split(".")} == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_of_400_lines_is_two_modules(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= 400, f"{module} has {lines} lines"
