"""Import DGL so that it works with every version of DGL and torch that kgtool supports.

DGL 2 imports `dgl.graphbolt`. Its compiled library exists only for the versions of torch that this
DGL was built for. kgtool does not use it, so an empty module replaces it if the library is missing.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

GRAPHBOLT = "dgl.graphbolt"


def graphbolt_is_missing(dgl_folder: Path, torch_version: str) -> bool:
    """Whether this DGL has `graphbolt` but not its compiled library for this torch.

    Args:
        dgl_folder: the folder of the package `dgl`.
        torch_version: as in `torch.__version__`, like `"2.13.0+cpu"`.
    """
    graphbolt = dgl_folder / "graphbolt"
    version = torch_version.partition("+")[0]
    library = f"graphbolt_pytorch_{version}"
    names = (f"lib{library}.so", f"lib{library}.dylib", f"{library}.dll")
    return graphbolt.is_dir() and not any((graphbolt / name).exists() for name in names)


def stand_in(torch_version: str) -> ModuleType:
    """An empty module that replaces `dgl.graphbolt`; using it raises AttributeError."""

    def missing(name: str) -> object:
        raise AttributeError(
            f"{GRAPHBOLT}.{name}: this DGL has no graphbolt library for torch {torch_version}"
        )

    module = module_from_spec(ModuleSpec(GRAPHBOLT, loader=None))
    vars(module)["__getattr__"] = missing
    return module


def prepare_import() -> None:
    """Make `import dgl` work; does nothing if dgl is imported already, or not installed."""
    # Without this variable DGL asks for a backend, and writes a file to the home folder.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    spec = None if "dgl" in sys.modules else find_spec("dgl")
    if spec is None or spec.origin is None or GRAPHBOLT in sys.modules:
        return

    import torch

    if graphbolt_is_missing(Path(spec.origin).parent, torch.__version__):
        sys.modules[GRAPHBOLT] = stand_in(torch.__version__)


prepare_import()

import dgl  # noqa: E402

__all__ = ["dgl"]
