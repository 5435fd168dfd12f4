"""The import of DGL: when a stand-in takes the place of `dgl.graphbolt`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kgtool.ops.runtime.dgl import dgl, graphbolt_is_missing, stand_in
from tests.support.places import ROOT

LIBRARIES = {
    "linux": "libgraphbolt_pytorch_{}.so",
    "macos": "libgraphbolt_pytorch_{}.dylib",
    "windows": "graphbolt_pytorch_{}.dll",
}

# A DGL whose graphbolt fails to import as DGL 2's does, unless its library is there.
FAKE_DGL = "from . import distributed\n"
FAKE_DISTRIBUTED = "from .. import graphbolt as gb\n"
FAKE_GRAPHBOLT = """
import pathlib, torch
path = pathlib.Path(__file__).parent / f"libgraphbolt_pytorch_{torch.__version__}.so"
if not path.exists():
    raise FileNotFoundError(path)
real = True
"""
FAKE_TORCH = '__version__ = "2.99.1"\n'


def folder_of(place: Path, *libraries: str, graphbolt: bool = True) -> Path:
    """A folder like that of the package `dgl`."""
    folder = place / "dgl"
    (folder / "graphbolt" if graphbolt else folder).mkdir(parents=True)
    for name in libraries:
        (folder / "graphbolt" / name).touch()
    return folder


@pytest.mark.parametrize("system", LIBRARIES)
def test_a_library_for_this_torch_is_used(tmp_path, system):
    folder = folder_of(tmp_path, LIBRARIES[system].format("2.1.2"))
    assert not graphbolt_is_missing(folder, "2.1.2")
    assert not graphbolt_is_missing(folder, "2.1.2+cpu")
    assert graphbolt_is_missing(folder, "2.1.1")
    assert graphbolt_is_missing(folder, "2.13.0+cpu")


def test_dgl_1_has_no_graphbolt(tmp_path):
    assert not graphbolt_is_missing(folder_of(tmp_path, graphbolt=False), "2.13.0")


def test_the_stand_in_says_what_is_missing():
    module = stand_in("2.13.0")
    assert module.__name__ == "dgl.graphbolt"
    with pytest.raises(AttributeError, match=r"graphbolt\.ItemSet: .* no graphbolt .* 2\.13\.0"):
        module.ItemSet  # noqa: B018


def test_dgl_is_the_installed_one():
    assert sys.modules["dgl"] is dgl
    assert os.environ["DGLBACKEND"]


@pytest.mark.parametrize("library", [False, True], ids=["missing", "there"])
@pytest.mark.parametrize("first", ["kgtool", "dgl"])
def test_a_stand_in_only_where_the_import_would_fail(tmp_path, library, first):
    """In a fake site, which imports before kgtool must keep working too."""
    for path, text in {
        "dgl/__init__.py": FAKE_DGL,
        "dgl/distributed/__init__.py": FAKE_DISTRIBUTED,
        "dgl/graphbolt/__init__.py": FAKE_GRAPHBOLT,
        "torch/__init__.py": FAKE_TORCH,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    if library:
        (tmp_path / "dgl/graphbolt/libgraphbolt_pytorch_2.99.1.so").touch()
    code = ["import dgl"] if first == "dgl" else []
    code += [
        "import runpy",
        f"runpy.run_path({str(ROOT / 'kgtool/ops/runtime/dgl.py')!r})",
        "import dgl",
        "print(hasattr(dgl.distributed.gb, 'real'))",
    ]

    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    if first == "dgl" and not library:  # as without kgtool: the import fails before it
        assert "FileNotFoundError" in done.stderr
    else:
        assert done.stdout == f"{library}\n", done.stderr
