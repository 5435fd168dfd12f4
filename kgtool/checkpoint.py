"""Checkpoints: tensors and JSON in one safetensors file, so that loading one runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kgtool.errors import RunError
from kgtool.files import atomic_write

Tensors = dict[str, Tensor]


def save_tensors(path: Path, tensors: Tensors, state: dict[str, Any]) -> None:
    """Write tensors and JSON-ready `state` to one file, whole or not at all."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, "wb") as file:
        file.write(save(contiguous, metadata={"state": json.dumps(state)}))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        RunError: when the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint. Remedy: train first, or check the run's name.")
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {}).get("state", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
        ) from error


def load_weights(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Copy tensors into a module.

    Raises:
        RunError: when names or shapes are not the module's; `path` is named.
    """
    own = module.state_dict()
    if own.keys() != tensors.keys() or any(own[n].shape != t.shape for n, t in tensors.items()):
        raise unfit(path)
    module.load_state_dict(tensors)


def unfit(path: Path) -> RunError:
    """The error for weights that are not of the sizes they are to have."""
    return RunError(
        f"{path}: the weights do not fit the run's configuration and vocabulary. "
        "Remedy: keep the files of a run together as they were written."
    )


def pack_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> Tensors:
    """The optimiser's tensors, as `"optimizer.<parameter>.<state>"`."""
    packed = {}
    for i, states in optimizer.state_dict()["state"].items():
        for key, value in states.items():
            packed[f"optimizer.{names[i]}.{key}"] = torch.as_tensor(value)
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Tensors) -> None:
    """Put back what `pack_optimizer` took; the parameter groups keep their own settings."""
    number = {name: i for i, name in enumerate(names)}
    states: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            parameter, key = name.removeprefix("optimizer.").rsplit(".", 1)
            states.setdefault(number[parameter], {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
