"""DGL, imported once and with PyTorch as its backend: `from kgtool.ops.runtime.dgl import dgl`."""

from __future__ import annotations

import os

# DGL asks for a backend, and writes one to the home folder, unless this is set before its import.
os.environ.setdefault("DGLBACKEND", "pytorch")

import dgl

__all__ = ["dgl"]
