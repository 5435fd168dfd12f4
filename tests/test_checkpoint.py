"""Checkpoints: whole or refused, and never code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from kgtool.checkpoint import (
    load_tensors,
    load_weights,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from kgtool.config import parse_config
from kgtool.errors import RunError
from kgtool.optimizer import make_optimizer

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
    """Unpickled, it leaves a file."""

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
    package = Path(__file__).parent.parent / "kgtool"
    for module in package.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        for word in ("pickle", "torch.load", "torch.save", "marshal", "shelve", "allow_pickle"):
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
