"""Tables too large for memory, in files that the system reads and writes by the page.

In training, and for states that layers make, the file is one without a name; weights that are
trained are read where their checkpoint has them.
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
from kgtool.storage.files import told_of


class MappedTables(TorchFunctionMode):
    """Within it, `torch.empty` and `torch.full_like` map what is large to a file.

    What is read and changed a few rows at a time then takes the memory of those rows' pages, and
    the system drops and writes back what has not been used for long. The file has no name: nothing
    of it is left when the process ends, however it ends.

    Args:
        folder: on the disk that is to have room; where it may not be written to, it is the
            system's folder for temporary files.
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
        """Do as torch does, but for large tables.

        Raises:
            KGToolError: when there is no room.
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
        folder: where its room is taken, at once.
        shape, dtype: of the tensor, whose values are 0.

    Raises:
        KGToolError: when there is no room.
    """
    size = math.prod(shape) * dtype.itemsize
    with told_of(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(shape)
