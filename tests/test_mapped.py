"""Tables larger than the memory: training is the same, and their files leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kgtool import mapped
from kgtool.checkpoint import load_tensors
from kgtool.errors import KGToolError
from kgtool.mapped import MappedTables, map_table
from kgtool.run import BEST, LAST
from kgtool.signals import Interrupted
from kgtool.trainer import _Trainer, train
from tests.runs import ring, tiny_config

DRAWN = tiny_config(dim=4, negatives=4, optimizer="adagrad", encoder={"layers": 1, "fanout": 2})


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A machine for which the tables of `DRAWN` are large; what was mapped on it."""
    seen = []

    def noted(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        seen.append(shape)
        return map_table(folder, shape, dtype)

    monkeypatch.setattr(mapped, "machine_bytes", lambda: 4 * 24 * 4 * 4)
    monkeypatch.setattr(mapped, "map_table", noted)
    return seen


def test_training_is_the_same_and_resumes(tmp_path, monkeypatch, request):
    train(DRAWN, ring(), tmp_path / "memory", progress=False)
    seen = request.getfixturevalue("small_memory")
    train(DRAWN, ring(), tmp_path / "mapped", progress=False)
    assert seen.count((24, 4)) == 2  # the embeddings, and Adagrad's sums of them

    original = _Trainer._step

    def step(self: _Trainer, rows: torch.Tensor) -> float:
        if self.step == 6:
            raise Interrupted
        return original(self, rows)

    monkeypatch.setattr(_Trainer, "_step", step)
    with pytest.raises(Interrupted):
        train(DRAWN, ring(), tmp_path / "resumed", progress=False)
    monkeypatch.setattr(_Trainer, "_step", original)
    train(DRAWN, ring(), tmp_path / "resumed", resume=True, progress=False)

    for kind in (BEST, LAST):
        expected = load_tensors(tmp_path / "memory" / kind)[0]
        for name in ("mapped", "resumed"):
            found = load_tensors(tmp_path / name / kind)[0]
            assert all(torch.equal(found[key], expected[key]) for key in expected)
    names = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("memory", "mapped")]
    assert names[0] == names[1]


def test_only_what_is_large_is_mapped(small_memory, tmp_path):
    with MappedTables(tmp_path):
        small = torch.empty(7, 4)
        table = torch.empty(24, 4, dtype=torch.float32)
        sums = torch.full_like(table, 0.5)
        planned = torch.empty(24, 4, device="meta")
    assert small_memory == [(24, 4), (24, 4)]
    assert planned.is_meta
    assert bool((sums == 0.5).all())
    assert list(tmp_path.iterdir()) == []
    assert small.shape == (7, 4)


def test_no_room_is_told_before_training(small_memory, tmp_path, monkeypatch):
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(KGToolError, match="No space left on device"):
        train(DRAWN, ring(), tmp_path / "run", progress=False)


LIMITED = """
import resource, sys, torch
from pathlib import Path
from kgtool import mapped
shape = (40_000_000,)  # 160 MB
used = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 80_000_000,) * 2)
try:
    torch.empty(shape)
    sys.exit("there was memory")
except RuntimeError:
    pass
mapped.machine_bytes = lambda: 200_000_000
with mapped.MappedTables(Path(sys.argv[1])):
    table = torch.full_like(torch.empty(shape), 2.0)
table[::1000] += 1
assert table[:2].tolist() == [3, 2] and float(table[::1000].mean()) == 3
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
def test_there_need_not_be_memory_for_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
