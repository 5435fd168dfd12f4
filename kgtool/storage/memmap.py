"""Tensors too large for the memory, mapped to files that the system reads and writes by page.

Training, and the states of layers, use unnamed files. Trained weights are mapped to their
checkpoint.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kgtool.ops import large
from kgtool.storage.files import write_errors


class MappedTables(TorchFunctionMode):
    """Within this mode, `torch.empty` and `torch.full_like` map large tensors to a file.

    A tensor that is read and changed a few rows at a time needs only the memory of their pages; the
    system writes back and drops pages that are not used. The file has no name, so it vanishes when
    the process ends in any way.

    Args:
        folder: a folder on the disk to use; if it is not writable, the system's folder for
            temporary files is used.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
        self.smallest = large()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the torch function, or map its result to a file if it is large.

        Raises:
            KGToolError: if the disk has no room.
        """
        kwargs = dict(kwargs or {})
        if func not in (torch.empty, torch.full_like):
            return func(*args, **kwargs)
        planned = func(*args, **kwargs | {"device": "meta"})
        wanted = torch.device(kwargs.get("device") or torch.get_default_device()).type
        if wanted != "cpu" or planned.nbytes < self.smallest:
            return func(*args, **kwargs)
        table = map_table(self.folder, tuple(planned.shape), planned.dtype)
        return table if func is torch.empty else table.fill_(args[1])


def map_table(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor whose memory is a file without a name.

    Args:
        folder: the folder of the file; its room is allocated at once.
        shape, dtype: of the tensor; its values are 0.

    Raises:
        KGToolError: if the disk has no room.
    """
    size = math.prod(shape) * dtype.itemsize
    with write_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(shape)
