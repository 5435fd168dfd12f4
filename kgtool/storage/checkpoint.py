"""Checkpoints: tensors and JSON in one safetensors file, so that loading one runs no code.

Its metadata holds the SHA-256 of the whole file, as it is with zeros in the checksum's place: no
byte can change unseen.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kgtool.errors import RunError
from kgtool.storage.files import atomic_write, sha256_of, told_of

Tensors = dict[str, Tensor]
LARGEST = 1e30  # of what a fit gives: sums and products of such are finite

_CHECKSUM = "sha256"
_ZEROS = "0" * 64
# Of mmap: no memory is set aside for a file that may be larger than it. Python 3.13 names it.
_MAP_NORESERVE = 0x4000 if sys.platform.startswith("linux") else 0
_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _TYPES.items()}


def save_tensors(
    path: Path, tensors: Tensors, state: dict[str, Any], before: Path | None = None
) -> None:
    """Write tensors and JSON-ready `state` to one file, whole or not at all.

    One tensor is written after another; no second copy of them is made.

    Args:
        path: the file.
        tensors: by name, of any device.
        state: what else is to be kept.
        before: where the file that `path` was is kept; see `kgtool.storage.files.atomic_write`.

    Raises:
        KGToolError: when the file cannot be written.
    """
    # The widest first, so that each lies at a multiple of its width, as readers want it.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    # First in the header, where its place is that of the first zeros.
    metadata = {_CHECKSUM: _ZEROS, "state": json.dumps(state)}
    header = safetensors_header({name: (t.dtype, t.shape) for name, t in ordered}, metadata)
    checksum = hashlib.sha256(header)
    with atomic_write(path, "wb", before) as file:
        file.write(header)
        for _, tensor in ordered:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            data = flat.view(torch.uint8).numpy().data
            checksum.update(data)
            file.write(data)
        file.seek(header.index(_ZEROS.encode()))
        file.write(checksum.hexdigest().encode())


def safetensors_header(
    tensors: Mapping[str, tuple[torch.dtype, Sequence[int]]], metadata: Mapping[str, str]
) -> bytes:
    """What a safetensors file begins with: 8 bytes for the length of the JSON, and the JSON.

    Args:
        tensors: dtype and shape by name, in the order in which their bytes follow, each tensor
            behind the other.
        metadata: text by name.

    Source: https://github.com/huggingface/safetensors, "Format". The library writes only what is
    in memory as a whole.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _TYPES[dtype], "shape": list(shape), "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Tensors stay in the file, and are read by the page as they are used, so that they may be larger
    than the memory; what is changed of them is changed for this process alone.

    Raises:
        RunError: when the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint. Remedy: train first, or check the run's name.")
    try:
        with safe_open(path, framework="numpy") as file:  # it looks at the header alone
            metadata = file.metadata() or {}
            # With nothing but a state: written before there were checksums.
            if metadata.keys() - {"state"}:
                _check(path, metadata.get(_CHECKSUM, ""))
            state = json.loads(metadata.get("state", "{}"))
            if not isinstance(state, dict):
                raise ValueError("its state is no JSON object")
            return _map_tensors(path, file), state
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
        ) from error


def _map_tensors(path: Path, header: Any) -> Tensors:
    """The tensors of a file where they stand in it, one behind the other, as its header tells.

    The library maps all of a file, for which the system wants as much memory.
    """
    with path.open("rb") as file:
        place = 8 + int.from_bytes(file.read(8), "little")
        flags, access = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        data = mmap.mmap(file.fileno(), 0, flags=flags, prot=access)
    tensors = {}
    for name in header.offset_keys():
        told = header.get_slice(name)
        shape, dtype = told.get_shape(), _DTYPES.get(told.get_dtype())
        if dtype is None or place % dtype.itemsize or max(shape, default=0) >= 2**63:
            raise ValueError(f"its tensor {name!r:.100} is not of a kind that is written")
        count = math.prod(shape)
        tensors[name] = (
            torch.frombuffer(data, dtype=dtype, count=count, offset=place).view(shape)
            if count
            else torch.empty(shape, dtype=dtype)
        )
        place += count * dtype.itemsize
    return tensors


def _check(path: Path, told: str) -> None:
    """Raise a ValueError when the checksum of a file is not the one that its header tells."""
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(int.from_bytes(start, "little"))
        checksum = sha256_of(file, start + header.replace(told.encode(), _ZEROS.encode(), 1))
    if checksum != told:
        raise ValueError("its bytes are not those that were written")


def fault(error: RunError) -> str:
    """What an error says, without the remedy."""
    return str(error).partition(" Remedy: ")[0]


def load_either(path: Path, before: Path) -> tuple[Tensors, dict[str, Any], str] | None:
    """Read a checkpoint, or the one before it where that is damaged or missing.

    That one then takes the name of the other, so that no damaged one is ever kept in its place.

    Returns:
        Tensors, state, and what was wrong, if anything; None when there is neither.

    Raises:
        RunError: when what there is is damaged.
        KGToolError: when it cannot be renamed.
    """
    if path.exists():
        try:
            return *load_tensors(path), ""
        except RunError as error:
            if not before.exists():
                raise
            wrong = fault(error)
    elif before.exists():
        wrong = f"{path}: missing, as when training is killed while it is written."
    else:
        return None
    try:
        found = load_tensors(before)
    except RunError as error:
        raise RunError(f"{wrong} And {error}") from error
    with told_of(path):
        before.replace(path)
    return *found, wrong


def load_fitted(path: Path, like: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """Read what was fitted once for a run and is kept in its folder.

    Args:
        path: the file.
        like: tensors of the names, sizes and types that are expected.

    Raises:
        RunError: when it is damaged, or holds other tensors or numbers that are no fit's.
    """
    tensors, state = load_tensors(path)
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if kinds != {name: (tensor.shape, tensor.dtype) for name, tensor in like.items()} or not all(
        bool((tensor.abs() < LARGEST).all()) for tensor in tensors.values()
    ):
        raise RunError(f"{path}: not this run's. Remedy: remove it, it is made again.")
    return tensors, state


def load_weights(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Copy tensors into a module.

    Raises:
        RunError: when names, shapes or types are not the module's; `path` is named.
    """
    check_fit(module, tensors, path)
    module.load_state_dict(tensors)


def check_fit(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Raise a RunError that names `path` where tensors are not of a module's sizes and types."""
    own = {name: (tensor.shape, tensor.dtype) for name, tensor in module.state_dict().items()}
    if own != {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}:
        raise unfit(path)


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
    """Put back what `pack_optimizer` took; the parameter groups keep their own settings.

    Raises:
        KeyError: for a tensor of no parameter.
        ValueError: for tensors that are not the optimiser's: a fused step would read beyond them.
    """
    number = {name: i for i, name in enumerate(names)}
    moments = {"sum"} if isinstance(optimizer, torch.optim.Adagrad) else {"exp_avg", "exp_avg_sq"}
    states: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            parameter, key = name.removeprefix("optimizer.").rsplit(".", 1)
            states.setdefault(number[parameter], {})[key] = tensor
    for i, own in states.items():
        (like,) = optimizer.param_groups[i]["params"]
        shapes = {"step": torch.Size(), **dict.fromkeys(moments, like.shape)}
        if {key: tensor.shape for key, tensor in own.items()} != shapes or any(
            tensor.dtype != torch.float32 for tensor in own.values()
        ):
            raise ValueError(f"the optimiser's tensors of {names[i]} are not its own")
    # What it has already, as Adagrad its sums, may be mapped to a file, and is filled. All else is
    # copied: what came from a file is still there, which is replaced by the next checkpoint.
    before = {like: dict(own) for like, own in optimizer.state.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    for like, own in optimizer.state.items():
        had = before.get(like, {})
        for key, tensor in own.items():
            own[key] = had[key].copy_(tensor) if key in had else tensor.clone()
