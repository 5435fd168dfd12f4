"""Tables larger than memory: training is the same, and their files are removed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kgtool.errors import Interrupted, KGToolError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.ops.runtime import memory
from kgtool.runs.run import BEST, LAST, Run
from kgtool.storage import memmap
from kgtool.storage.checkpoint import load_tensors
from kgtool.storage.memmap import MappedTables, map_table
from kgtool.training.step import Updater
from kgtool.training.trainer import _Trainer, train
from tests.support.runs import ring, tiny_config

DRAWN = tiny_config(dim=4, num_negatives=4, optimizer="adagrad", encoder={"layers": 1, "fanout": 2})


ON_LINUX = sys.platform.startswith("linux")


def mapping_of(tensor: torch.Tensor) -> tuple[str, list[str]]:
    """The file that is mapped at a tensor's address, and its flags; see proc(5), smaps."""
    place = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(span[1], 16) <= tensor.data_ptr() < int(span[2], 16)
            place = line.split(maxsplit=5)[5:] if here else None
        elif place is not None and line.startswith("VmFlags:"):
            return "".join(place), line.split()[1:]
    raise ValueError("no memory of this process")


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Simulate a machine with too little memory for `DRAWN`'s tables; the mapped files."""
    seen = []

    def noted(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        assert os.access(folder, os.W_OK)
        seen.append(shape)
        return map_table(folder, shape, dtype)

    monkeypatch.setattr(memory, "machine_bytes", lambda: 4 * 24 * 4 * 4)
    monkeypatch.setattr(memmap, "map_table", noted)
    return seen


def test_training_is_the_same_and_resumes(tmp_path, monkeypatch, request):
    train(DRAWN, ring(), tmp_path / "memory", progress=False)
    seen = request.getfixturevalue("small_memory")
    train(DRAWN, ring(), tmp_path / "mapped", progress=False)
    validations = len(Run.open(tmp_path / "mapped").history())
    # The embeddings, Adagrad's sums of them, and what a layer makes of them.
    assert seen.count((24, 4)) == 2 + validations

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


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("read_only", [False, True])
def test_weights_are_read_where_training_has_left_them(
    tmp_path, monkeypatch, request, layers, read_only
):
    config = DRAWN.model_copy(update={"encoder": tiny_config(encoder={"layers": layers}).encoder})
    run = train(config, ring(), tmp_path / "run", progress=False)
    expected = evaluate_model(run.scorer(ring()), ring(), "test")
    seen = request.getfixturevalue("small_memory")
    if read_only:  # as root is not kept from
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run.path)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = run.model(ring())
    if ON_LINUX:
        mapped_to = {name: mapping_of(parameter)[0] for name, parameter in model.named_parameters()}
        assert mapped_to.pop("encoder.entities") == str(run.path / BEST)
        assert str(run.path / BEST) not in mapped_to.values()
    scorer = run.scorer(ring())
    assert seen == [(24, 4)] * layers  # states that a layer has made
    found = evaluate_model(scorer, ring(), "test")
    assert found.filtered == expected.filtered
    assert torch.equal(found.ranking.score, expected.ranking.score)


@pytest.mark.skipif(not ON_LINUX, reason="madvise's advice is seen in Linux's smaps")
def test_steps_read_rows_alone(small_memory, tmp_path, monkeypatch):
    updater = Updater(DRAWN, ring(), tmp_path / "owners")
    embeddings = updater.model.embeddings()[0]
    tables = [embeddings, updater.optimizer.state[embeddings]["sum"]]
    rows = updater.objective.order(0, 0)[:4]
    expected = []

    def noted(part: Any) -> Any:
        expected.append(["rr" in mapping_of(table)[1] for table in tables])
        return loss(part)

    loss = updater.objective.loss
    monkeypatch.setattr(updater.objective, "loss", noted)
    updater._step(rows)
    noted(updater.objective.parts(rows)[0])
    assert expected == [[True, True], [False, False]]
    assert "rr" not in mapping_of(updater.model.embeddings()[1])[1]


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
from kgtool.storage import memmap
from kgtool.ops.runtime import memory
shape = (40_000_000,)  # 160 MB
used = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 80_000_000,) * 2)
try:
    torch.empty(shape)
    sys.exit("there was memory")
except RuntimeError:
    pass
memory.machine_bytes = lambda: 200_000_000
with memmap.MappedTables(Path(sys.argv[1])):
    table = torch.full_like(torch.empty(shape), 2.0)
table[::1000] += 1
assert table[:2].tolist() == [3, 2] and float(table[::1000].mean()) == 3
"""


@pytest.mark.skipif(not ON_LINUX, reason="RLIMIT_DATA is Linux's")
def test_there_need_not_be_memory_for_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"memory.max": "max", "a/memory.max": "300"}, [300], id="the group"),
        pytest.param({"a/memory.max": "max", "memory.max": "200"}, [200], id="one around it"),
        pytest.param({"memory/a/memory.limit_in_bytes": "100"}, [100], id="version 1"),
        pytest.param({"memory/memory.limit_in_bytes": "90"}, [90], id="a container's, version 1"),
    ],
)
def test_what_a_container_allows_counts_as_the_memory(tmp_path, told, limits):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("8:pids:/a\n4:memory:/a\n1:cpu,cpuacct:/\n0::/a\n")
    for name, value in told.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
    assert sorted(memory._limits(tmp_path)) == limits
    assert list(memory._limits(tmp_path / "nowhere")) == []
    assert 0 < (memory.machine_bytes() or 0) <= psutil.virtual_memory().total
