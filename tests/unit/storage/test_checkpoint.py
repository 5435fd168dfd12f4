"""Checkpoints: complete or refused, and never code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.common import peak_growth
from kgtool.config import parse_config
from kgtool.errors import RunError
from kgtool.storage import checkpoint
from kgtool.storage.checkpoint import (
    load_either,
    load_tensors,
    load_weights,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from kgtool.training.optimizer import make_optimizer
from tests.support.places import ROOT

TENSORS = {
    "float": torch.tensor([[0.1, -2.5], [1e-40, 3e38]]),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "scalar": torch.tensor(7.0),
    "empty": torch.zeros(0, 3),
    "transposed": torch.arange(6.0).view(2, 3).t(),
}
STATE = {"epoch": 3, "loss": 1 / 3, "history": [{"mrr": 0.1, "labels": 'é "\u2028'}]}


class Trap:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_tensors_and_state_come_back_as_they_were(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, STATE)
    tensors, state = load_tensors(path)
    assert state == STATE
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(RunError, match="no such checkpoint") as caught:
            load_tensors(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_file(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match="damaged checkpoint") as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)


def test_a_damaged_header(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, STATE)
    data = bytearray(path.read_bytes())
    data[10:20] = b"\xff" * 10
    path.write_bytes(data)
    with pytest.raises(RunError, match="damaged checkpoint"):
        load_tensors(path)


def test_every_byte_counts(tmp_path):
    """A change of any byte is detected, for each width of numbers."""
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, STATE)
    whole = path.read_bytes()
    for i in range(len(whole)):
        for bit in (1, 0x20):
            changed = bytearray(whole)
            changed[i] ^= bit
            path.write_bytes(changed)
            with pytest.raises(RunError, match="damaged checkpoint"):
                load_tensors(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(RunError, match="damaged checkpoint"):
        load_tensors(path)
    path.write_bytes(whole)
    load_tensors(path)


def test_files_without_a_checksum_are_read(tmp_path):
    """Older files have no checksum."""
    path = tmp_path / "x.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(tensors, path, {"state": json.dumps(STATE)})
    found, state = load_tensors(path)
    assert state == STATE
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_others_read_what_is_written(tmp_path):
    path = tmp_path / "x.safetensors"
    more = {str(d): torch.ones(3, dtype=d) for d in checkpoint._TYPES}
    save_tensors(path, TENSORS | more, STATE)
    found = load_file(path)
    assert found.keys() == (TENSORS | more).keys()
    for name, tensor in (TENSORS | more).items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() % tensor.element_size() == 0


def test_no_second_copy_is_made(tmp_path):
    tensors = {"a": torch.zeros(30_000_000), "b": torch.ones(10_000_000)}
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"warm": torch.ones(2)}, {})
    growth, _ = peak_growth(lambda: save_tensors(path, tensors, {}))
    if growth is None:
        pytest.skip("this system does not tell a process' peak")
    assert growth < 20e6


def test_a_file_larger_than_the_memory_is_read_by_the_page(tmp_path):
    path = tmp_path / "x.safetensors"
    rows = (psutil.virtual_memory().total + psutil.swap_memory().total) // 2**20 + 1000
    header = checkpoint.safetensors_header({"table": (torch.uint8, (rows, 2**20))}, {"state": "{}"})
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + rows * 2**20)  # there are no bytes on the disk
    table = load_tensors(path)[0]["table"]
    table[-1, 0] = 7
    assert table[-1, :2].tolist() == [7, 0]
    assert load_tensors(path)[0]["table"][-1, 0] == 0  # it was changed for its holder alone


@pytest.mark.parametrize(
    ("kinds", "place"),
    [
        pytest.param({"a": "F8_E4M3"}, 0, id="a type of none of ours"),
        pytest.param({"a": "U8", "b": "F32"}, 1, id="floats at an odd place"),
        pytest.param({"a": "F32", "empty": "F32"}, 1, id="a size beyond all integers"),
    ],
)
def test_tensors_of_no_kind_that_is_written(tmp_path, kinds, place):
    path = tmp_path / "x.safetensors"
    told, end = {}, 0
    for name, dtype in kinds.items():
        shape = [0, 2**64 - 1] if name == "empty" else [1]
        begin, end = end, end + shape[0] * (4 if dtype == "F32" else 1)
        told[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(told).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    name = sorted(kinds)[place]
    with pytest.raises(RunError, match=f"damaged checkpoint.*its tensor '{name}'"):
        load_tensors(path)


def test_the_one_before_is_read_where_the_last_is_not_whole(tmp_path):
    last, before = tmp_path / "last", tmp_path / "before"
    assert load_either(last, before) is None
    for i in range(3):
        save_tensors(last, {"x": torch.tensor(i)}, {"i": i}, before)
    found = load_either(last, before)
    assert found is not None
    assert found[1:] == ({"i": 2}, "")
    assert load_tensors(before)[1] == {"i": 1}
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    found = load_either(last, before)
    assert found is not None
    assert found[0] == {"x": torch.tensor(1)}
    assert found[1] == {"i": 1}
    assert found[2].startswith(f"{last}: damaged checkpoint (")
    assert "Remedy" not in found[2]
    # The whole one has taken the place of the damaged one.
    assert load_tensors(last)[1] == {"i": 1}
    assert not before.exists()


def test_without_a_last_one_the_one_before_is_read(tmp_path):
    last, before = tmp_path / "last", tmp_path / "before"
    save_tensors(before, {}, {"i": 1})
    found = load_either(last, before)
    assert found is not None
    assert found[1] == {"i": 1}
    assert "missing" in found[2]
    assert last.exists()


def test_two_damaged_ones_are_both_named(tmp_path):
    last, before = tmp_path / "last", tmp_path / "before"
    last.write_bytes(b"1")
    with pytest.raises(RunError, match=r"last: damaged .* Remedy"):
        load_either(last, before)
    before.write_bytes(b"2")
    with pytest.raises(RunError, match=r"last: damaged .* And .*before: damaged .* Remedy"):
        load_either(last, before)
    assert (last.read_bytes(), before.read_bytes()) == (b"1", b"2")


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path, how):
    path, trace = tmp_path / "best.safetensors", tmp_path / "trace"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Trap(trace)))
    else:
        torch.save({"weights": torch.zeros(3), "trap": Trap(trace)}, path)
    with pytest.raises(RunError, match="damaged checkpoint"):
        load_tensors(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Trap(trace)))  # it would have
    assert trace.exists()


def test_no_module_loads_pickles():
    package = ROOT / "kgtool"
    for module in package.rglob("*.py"):
        text = module.read_text(encoding="utf-8").replace("allow_pickle=False", "")
        for word in ("pickle", "torch.load", "torch.save", "marshal", "shelve", "allow_pickle"):
            # The layouts of a data set's source read pickles by a reader that can run nothing: see
            # `tests/unit/data/registry/test_fetching.py`.
            if module.name == "layouts.py" and word == "pickle":
                assert "pickle.load" not in text
                continue
            assert word not in text, f"{module.name} says {word}"


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(2, 3)},
        {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)},
    ],
    ids=["missing", "shape", "more"],
)
def test_weights_that_do_not_fit(tensors):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(RunError, match=r"some/best: the weights do not fit"):
        load_weights(module, tensors, Path("some/best"))
    assert torch.equal(module.weight, before)


def test_weights_come_back():
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(other, module.state_dict(), Path("x"))
    assert torch.equal(module.weight, other.weight)
    assert torch.equal(module.bias, other.bias)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adagrad"])
def test_an_optimizer_goes_on_where_it_stopped(tmp_path, optimizer):
    settings = parse_config({"training": {"optimizer": optimizer, "weight_decay": 0.01}}).training
    names = ["layer.weight", "layer.bias", "idle"]

    def begin() -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.rand(3, 2)), nn.Parameter(torch.rand(2))]
        parameters.append(nn.Parameter(torch.rand(1)))  # without gradients
        return parameters, make_optimizer(settings, parameters, parameters)

    def step(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, i: int) -> None:
        optimizer.zero_grad()
        (parameters[0].sin().sum() * i + (parameters[1] ** 2).sum()).backward()
        optimizer.step()

    whole, steady = begin()
    for i in range(5):
        step(whole, steady, i)
        if i == 2:
            tensors = {name: p.detach().clone() for name, p in zip(names, whole, strict=True)}
            save_tensors(tmp_path / "x", tensors | pack_optimizer(steady, names), {})
    resumed, fresh = begin()
    saved, _ = load_tensors(tmp_path / "x")
    with torch.no_grad():
        for name, parameter in zip(names, resumed, strict=True):
            parameter.copy_(saved[name])
    unpack_optimizer(fresh, names, saved)
    for i in (3, 4):
        step(resumed, fresh, i)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
