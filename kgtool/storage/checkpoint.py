"""Checkpoints: tensors and JSON in one safetensors file. Loading a checkpoint runs no code.

The metadata holds a SHA-256 of the whole file, computed with zeros in place of the checksum, so
every changed byte is detected.
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
from kgtool.storage.files import atomic_write, sha256_of, write_errors

Tensors = dict[str, Tensor]
LARGEST = 1e30  # bound for fitted numbers: their sums and products stay finite

_CHECKSUM = "sha256"
_ZEROS = "0" * 64
# A flag of mmap: reserve no memory for a file that may be larger than the memory. Python 3.13 has
# a name for it.
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
    """Write tensors and a JSON-ready `state` to one file, completely or not at all.

    The tensors are written one by one; no second copy of them is made.

    Args:
        path: the file.
        tensors: tensors by name, on any device.
        state: further data.
        before: the new name of the replaced file; see `kgtool.storage.files.atomic_write`.

    Raises:
        KGToolError: if the file cannot be written.
    """
    # The widest dtypes first: each tensor then lies at a multiple of its width, as readers expect.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    # The checksum comes first in the header, so that its place is that of the first zeros.
    metadata = {_CHECKSUM: _ZEROS, "state": json.dumps(state)}
    header = safetensors_header({name: (t.dtype, t.shape) for name, t in ordered}, metadata)
    checksum = hashlib.sha256(header)
    with atomic_write(path, "wb", before) as file:
        file.write(header)
        for _, tensor in ordered:
            # As reshape(-1), but one number may have any stride, which torch 2.4 does not view.
            flat = tensor.detach().cpu().contiguous().as_strided((tensor.numel(),), (1,))
            data = flat.view(torch.uint8).numpy().data
            checksum.update(data)
            file.write(data)
        file.seek(header.index(_ZEROS.encode()))
        file.write(checksum.hexdigest().encode())


def safetensors_header(
    tensors: Mapping[str, tuple[torch.dtype, Sequence[int]]], metadata: Mapping[str, str]
) -> bytes:
    """The header of a safetensors file: 8 bytes for the length of the JSON, then the JSON.

    Args:
        tensors: dtype and shape by name, in the order in which the tensors' bytes follow.
        metadata: text by name.

    Source: https://github.com/huggingface/safetensors, "Format". The library itself can only write
    tensors that are completely in memory.
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
    """Read the tensors and the state that `save_tensors` wrote.

    The tensors are mapped to the file and read page by page on use, so they may be larger than the
    memory. Changes to them are private to this process and do not reach the file.

    Raises:
        RunError: if the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint. Remedy: train first, or check the run's name.")
    try:
        with safe_open(path, framework="numpy") as file:  # reads the header only
            metadata = file.metadata() or {}
            # A file with a state only was written before there were checksums.
            if metadata.keys() - {"state"}:
                _check(path, metadata.get(_CHECKSUM, ""))
            state = json.loads(metadata.get("state", "{}"))
            if not isinstance(state, dict):
                raise ValueError("its state is not a JSON object")
            return _map_tensors(path, file), state
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: damaged checkpoint ({error}). Remedy: restore the file or train again."
        ) from error


def _map_tensors(path: Path, header: Any) -> Tensors:
    """The tensors of a file, mapped to it by the offsets in its header.

    The library would map the whole file, for which the system reserves as much memory.
    """
    with path.open("rb") as file:
        place = 8 + int.from_bytes(file.read(8), "little")
        flags, access = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        data = mmap.mmap(file.fileno(), 0, flags=flags, prot=access)
    tensors = {}
    for name in header.offset_keys():
        entry = header.get_slice(name)
        shape, dtype = entry.get_shape(), _DTYPES.get(entry.get_dtype())
        if dtype is None or place % dtype.itemsize or max(shape, default=0) >= 2**63:
            raise ValueError(f"its tensor {name!r:.100} has an unsupported dtype, shape or offset")
        count = math.prod(shape)
        tensors[name] = (
            torch.frombuffer(data, dtype=dtype, count=count, offset=place).view(shape)
            if count
            else torch.empty(shape, dtype=dtype)
        )
        place += count * dtype.itemsize
    return tensors


def _check(path: Path, expected: str) -> None:
    """Raise a ValueError if the checksum of a file differs from the one in its header."""
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(int.from_bytes(start, "little"))
        checksum = sha256_of(file, start + header.replace(expected.encode(), _ZEROS.encode(), 1))
    if checksum != expected:
        raise ValueError("its bytes do not match its checksum")


def fault(error: RunError) -> str:
    """The message of an error, without the remedy."""
    return str(error).partition(" Remedy: ")[0]


def load_either(path: Path, before: Path) -> tuple[Tensors, dict[str, Any], str] | None:
    """Read a checkpoint, or the previous one if the checkpoint is damaged or missing.

    The previous checkpoint is then renamed to `path`, so it is not replaced by a damaged one.

    Returns:
        Tensors, state, and the problem of the checkpoint or an empty text; None if both are
        missing.

    Raises:
        RunError: if no checkpoint is intact.
        KGToolError: if the previous checkpoint cannot be renamed.
    """
    if path.exists():
        try:
            return *load_tensors(path), ""
        except RunError as error:
            if not before.exists():
                raise
            wrong = fault(error)
    elif before.exists():
        wrong = f"{path}: missing; training may have been killed while it wrote the file."
    else:
        return None
    try:
        tensors, state = load_tensors(before)
    except RunError as error:
        raise RunError(f"{wrong} And {error}") from error
    with write_errors(path):
        before.replace(path)
    return tensors, state, wrong


def load_fitted(path: Path, like: Tensors) -> tuple[Tensors, dict[str, Any]]:
    """Read a fit that a run stores in its folder.

    Args:
        path: the file.
        like: tensors with the expected names, shapes and dtypes.

    Raises:
        RunError: if the file is damaged, or has other tensors or numbers that are not finite.
    """
    tensors, state = load_tensors(path)
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if kinds != {name: (tensor.shape, tensor.dtype) for name, tensor in like.items()} or not all(
        bool((tensor.abs() < LARGEST).all()) for tensor in tensors.values()
    ):
        raise RunError(f"{path}: does not belong to this run. Remedy: remove it; it is made again.")
    return tensors, state


def load_weights(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Copy tensors into a module.

    Raises:
        RunError: if names, shapes or dtypes are not the module's; the message names `path`.
    """
    check_fit(module, tensors, path)
    module.load_state_dict(tensors)


def check_fit(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Raise a RunError that names `path` if the tensors do not fit a module."""
    own = {name: (tensor.shape, tensor.dtype) for name, tensor in module.state_dict().items()}
    if own != {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}:
        raise unfit(path)


def unfit(path: Path) -> RunError:
    """The error for weights with unexpected names, shapes or dtypes."""
    return RunError(
        f"{path}: the weights do not fit the run's configuration and vocabulary. "
        "Remedy: restore the files of the run; files of different runs cannot be mixed."
    )


def pack_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> Tensors:
    """The optimiser's tensors, as `"optimizer.<parameter>.<state>"`."""
    packed = {}
    for i, states in optimizer.state_dict()["state"].items():
        for key, value in states.items():
            packed[f"optimizer.{names[i]}.{key}"] = torch.as_tensor(value)
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Tensors) -> None:
    """Load the tensors of `pack_optimizer`; the parameter groups keep their own settings.

    Raises:
        KeyError: for a tensor of an unknown parameter.
        ValueError: for tensors of wrong shapes or dtypes: a fused step would read beyond them.
    """
    number = {name: i for i, name in enumerate(names)}
    keys = {"sum"} if isinstance(optimizer, torch.optim.Adagrad) else {"exp_avg", "exp_avg_sq"}
    states: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            parameter, key = name.removeprefix("optimizer.").rsplit(".", 1)
            states.setdefault(number[parameter], {})[key] = tensor
    for i, own in states.items():
        (like,) = optimizer.param_groups[i]["params"]
        shapes = {"step": torch.Size(), **dict.fromkeys(keys, like.shape)}
        if {key: tensor.shape for key, tensor in own.items()} != shapes or any(
            tensor.dtype != torch.float32 for tensor in own.values()
        ):
            raise ValueError(f"the optimiser's tensors of {names[i]} have wrong shapes or dtypes")
    # State that exists already, such as Adagrad's sums, may be mapped to a file; it is overwritten
    # in place. The other tensors are copied: they are mapped to the checkpoint, and the next
    # checkpoint replaces that file.
    before = {like: dict(own) for like, own in optimizer.state.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    for like, own in optimizer.state.items():
        had = before.get(like, {})
        for key, tensor in own.items():
            own[key] = had[key].copy_(tensor) if key in had else tensor.clone()
