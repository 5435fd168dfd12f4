"""The order of the rooms: imports flow one way, from errors and kernels to the command line."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support.blocks import PAGES
from tests.support.places import ROOT

PACKAGE = ROOT / "kgtool"

# A room may import from the rooms before its level, and from nothing else of the package.
ORDER = (
    "display, errors, ops < config, storage, distributed < data < graph, export < models"
    " < evaluation, runs < training, inference < report, service < api < cli"
)
LEVEL = {
    room: level
    for level, rooms in enumerate(ORDER.split(" < "))
    for room in rooms.split(", ")
}  # fmt: skip
ENTRIES = {"kgtool", "kgtool.__main__"}  # the package itself and `python -m kgtool`
DISPLAY = "kgtool.display"  # makes data frames, and reads no files
FILE_READING = {"kgtool.storage", "kgtool.data.loaders", "pandas", "csv", "json", "zipfile"}


def module_name(path: Path) -> str:
    parts = ("kgtool", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source: str) -> set[str]:
    """The dotted names that a module imports, also inside functions.

    `from a import b` gives `a.b` if that is a module of the package, else `a`.
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


def reach(module: str, *without: str) -> set[str]:
    """All modules that a module imports, directly or indirectly, inside the package.

    The imports of the modules in `without` are left out.
    """
    found: set[str] = set()
    ahead = {module}
    while ahead:
        within = ahead & MODULES.keys() - {*without}
        ahead = {name for one in within for name in imports(one)} - found
        found |= ahead
    return found


def test_git_ignores_no_file_of_the_package_or_its_tests():
    """What git ignores is missing in the built package, and ruff does not check it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    files = [str(path.relative_to(ROOT)) for path in ROOT.glob("[kt]*/**/*.py")]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(
        command, input="\n".join(files), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert "kgtool/runs/run.py" in files


def test_imports_are_read():
    source = (
        "import a.b\nfrom kgtool import errors\nfrom kgtool import config as c\n"
        "def f():\n    from kgtool.errors import DataError, RunError\n"
    )
    assert imports_of(source) == {"a.b", "kgtool.config", "kgtool.errors"}
    assert "torch" in reach("kgtool.cli")


def test_every_module_is_in_a_room():
    assert {room(module) for module in set(MODULES) - ENTRIES} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(set(MODULES) - ENTRIES))
def test_imports_flow_one_way(module):
    for name in imports(module):
        if name.split(".")[0] != "kgtool":
            continue
        assert name != "kgtool", f"{module} imports the package as a whole"
        if room(name) != room(module):
            assert LEVEL[room(name)] < LEVEL[room(module)], f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - ENTRIES))
def test_no_module_imports_itself_over_others(module):
    assert module not in reach(module)


@pytest.mark.parametrize(
    "module",
    [
        "graph.knowledge_graph",
        *(f"models.{name}" for name in ("rgcn", "path_gru", "walk_gru", "all_paths", "model")),
        *(f"evaluation.{name}" for name in ("ranking", "evaluator")),
    ],
)
def test_the_model_reads_no_files(module):
    read = {
        name
        for name in reach(f"kgtool.{module}", DISPLAY)
        if any(name == reader or name.startswith(f"{reader}.") for reader in FILE_READING)
    }
    assert read == set()


def test_display_reads_no_files():
    assert reach(DISPLAY) <= {
        "__future__", "collections.abc", "html", "pandas", "typing"
    }  # fmt: skip
    assert "read_" not in MODULES[DISPLAY].read_text(encoding="utf-8")


def test_ranking_knows_no_kind_of_model():
    for module in MODULES:
        if room(f"{module}.") == "evaluation" and ".tasks." not in module:
            models = {name for name in imports(module) if name.startswith("kgtool.models")}
            assert models <= {"kgtool.models.scorers"}, module


def test_nobody_imports_the_command_line():
    for module in set(MODULES) - ENTRIES:
        if room(module) != "cli":
            assert "typer" not in imports(module)


def test_modules_are_named_after_what_they_do():
    vague = {"utils", "util", "helpers", "misc", "common"}
    assert vague & {part for module in MODULES for part in module.split(".")} == set()


@pytest.mark.parametrize("page", PAGES)
def test_documents_name_files_that_exist(page):
    for place in re.findall(
        r"`((?:kgtool|tests|docs|benchmarks)/[\w/.]*)`", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / place).exists(), place


def test_contributing_lists_every_room():
    rows = re.findall(
        r"^\| (`.*?`) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M
    )
    rooms = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(LEVEL) <= rooms
