"""Entity features: vectors of entities by label, such as text embeddings or measurements.

The vectors of several sources are concatenated. An entity may lack the vector of a source; the
numbers of this source are then NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from kgtool.errors import DataError

# Rows that are handled at a time, so that the memory holds no second copy of a table.
BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class Features:
    """The vectors of labels.

    Attributes:
        labels: M labels, all different.
        table: `(M, D)` float32; NaN in the columns of a source that lacks the label.
        widths: the width of each source, in the order of the columns; their sum is D.
    """

    labels: pa.Array
    table: Tensor
    widths: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Features({len(self.labels):,} labels, {' + '.join(map(str, self.widths))} numbers)"

    def tensors(self) -> dict[str, Tensor]:
        """The labels and the table as tensors, for a file: `ends` `(M,)` are those of the labels in
        `labels`, their UTF-8.
        """
        texts = [label.as_py().encode() for label in self.labels]
        ends = torch.tensor([len(text) for text in texts], dtype=torch.int64).cumsum(0)
        data = torch.from_numpy(np.frombuffer(b"".join(texts), np.uint8).copy())
        return {"table": self.table, "labels": data, "ends": ends}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], widths: Sequence[int]) -> Features:
        """The features of `tensors`.

        Raises:
            KeyError, ValueError: if the tensors or the widths are not those of `tensors`.
        """
        table, ends = tensors["table"], tensors["ends"]
        offsets = torch.cat([ends.new_zeros(1), ends])
        fits = (
            table.dtype == torch.float32
            and ends.dtype == torch.int64
            and table.dim() == 2
            and len(table) == len(ends)
            and widths
            and all(type(width) is int and width > 0 for width in widths)
            and sum(widths) == table.shape[1]
            and bool((offsets.diff() >= 0).all())
            and int(offsets[-1]) == len(tensors["labels"])
        )
        if not fits:
            raise ValueError("the shapes do not fit")
        buffers = [None, *(pa.py_buffer(part.numpy()) for part in (offsets, tensors["labels"]))]
        labels = pa.Array.from_buffers(pa.large_string(), len(ends), buffers)
        labels.validate(full=True)
        return cls(labels, table, tuple(widths))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of widths, labels and numbers."""
        digest = hashlib.sha256(repr(self.widths).encode())
        for label in self.labels:
            digest.update(label.as_py().encode() + b"\0")
        digest.update(self.table.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def starts(self) -> list[int]:
        """The first column of each source."""
        return [sum(self.widths[:i]) for i in range(len(self.widths))]

    def of(self, labels: Sequence[str]) -> Tensor:
        """`(n, D)` float32: the vectors of labels; NaN for unknown labels.

        They are a view of the table, if it begins with these labels.
        """
        wanted = pa.array(labels, pa.large_string())
        if self.labels[: len(wanted)].equals(wanted):
            return self.table[: len(wanted)]
        rows = pc.index_in(wanted, self.labels).fill_null(-1).to_numpy(zero_copy_only=False)
        place = torch.from_numpy(np.array(rows, np.int64))
        # "cpu" holds within `torch.device("meta")` too, where models are planned.
        table = torch.empty(len(place), self.table.shape[1], device="cpu")
        for begin in range(0, len(place), BLOCK):
            some = place[begin : begin + BLOCK]
            block = table[begin : begin + BLOCK]
            torch.index_select(self.table, 0, some.clamp(min=0), out=block)
            block[some < 0] = torch.nan
        return table

    def lacks(self, table: Tensor) -> Tensor:
        """`(n, sources)` bool: whether rows `(n, D)` lack the vector of each source."""
        return table[:, self.starts].isnan()

    def merged(self, newer: Features, place: str) -> Features:
        """These vectors and newer ones; a newer vector replaces that of the same label and source.

        Raises:
            DataError: if the widths differ; the message names `place`.
        """
        newer.check_widths(self.widths, place)
        unknown = pc.invert(pc.is_in(newer.labels, self.labels))
        labels = pa.concat_arrays([self.labels, newer.labels.filter(unknown)])
        table, of_newer = self.of(labels.to_pylist()), newer.of(labels.to_pylist())
        return Features(labels, torch.where(of_newer.isnan(), table, of_newer), self.widths)

    def check_widths(self, widths: Sequence[int], place: str) -> None:
        """Raise a DataError that names `place` if the widths are not the given ones of a run."""
        if self.widths != tuple(widths):
            raise DataError(
                f"{place}: the features have {_shown(self.widths)} numbers, but the run was "
                f"trained with {_shown(widths)}. Remedy: give features made as for the training."
            )

    def ordered(self, labels: Sequence[str]) -> Features:
        """The same vectors: first those of the given labels, in their order, then the others."""
        first = pa.array(labels, pa.large_string())
        others = self.labels.filter(pc.invert(pc.is_in(self.labels, first)))
        order = pa.concat_arrays([first, others])
        return Features(order, self.of(order.to_pylist()), self.widths)


def _shown(widths: Sequence[int]) -> str:
    return " + ".join(f"{width:,}" for width in widths)


@dataclass(frozen=True)
class Coverage:
    """How many entities have vectors.

    Attributes:
        source: the name of the source.
        width: the numbers of a vector.
        entities, of_train: the entities with a vector, and those of train.
        all_entities, all_of_train: how many entities there are, and how many in train.
        others: labels with a vector that are not an entity of the data.
    """

    source: str
    width: int
    entities: int
    of_train: int
    all_entities: int
    all_of_train: int
    others: int

    def __str__(self) -> str:
        text = (
            f"features {self.source}: {self.width:,} numbers for {self.entities:,} of "
            f"{self.all_entities:,} entities ({self.of_train:,} of {self.all_of_train:,} of train)"
        )
        if self.entities < self.all_entities:
            text += "; the others get a learned vector"
        if self.others:
            text += f"; {self.others:,} labels are not an entity of the data"
        return text


def coverage(
    features: Features, names: Sequence[str], labels: Sequence[str], train: Tensor
) -> list[Coverage]:
    """The coverage of each source.

    Args:
        features: the vectors.
        names: the name of each source.
        labels: the entities of the data, by id.
        train: `(n, 3)` int64 triples.
    """
    own = ~features.lacks(features.of(labels))
    every = (~features.lacks(features.table)).sum(0).tolist()
    seen = torch.unique(train[:, ::2])
    of_train = own[seen].sum(0).tolist()
    return [
        Coverage(
            names[i], features.widths[i], count, of_train[i],
            len(labels), len(seen), every[i] - count,
        )
        for i, count in enumerate(own.sum(0).tolist())
    ]  # fmt: skip
