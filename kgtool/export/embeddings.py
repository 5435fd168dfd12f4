"""What the forms write: labelled rows of float32, checked once and handed out in blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.errors import DataError, KGToolError

# A TSV has no way to write the first three inside a label, UTF-8 none for half a surrogate pair.
UNFIT = re.compile("[\t\n\r\ud800-\udfff]")

BLOCK = 2**20  # numbers: 4 MiB of float32, 13 MB of text, a row group of Parquet


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of one kind, in id order.

    Attributes:
        kind: `entity`, `relation` or `inverse_relation`.
        ids: of the rows, among all of their kind; an inverse has the id of its relation.
        labels: a label a row; an inverse has that of its relation.
        vectors: `(rows, d)` float32, little-endian, contiguous.
    """

    kind: str
    ids: range
    labels: Sequence[str]
    vectors: NDArray[np.float32]

    @cached_property
    def rows(self) -> list[str]:
        """The rows as text, a tab between the numbers, which read back bit by bit.

        Nine significant digits are enough for float32, also by way of a reader's float64, and
        leave room for one that is off in its last place.
        """
        # The # keeps the decimal point, so that no reader takes a column for integers and loses
        # -0.0.
        form = "\t".join(["%#.9g"] * self.vectors.shape[1])
        return [form % tuple(row.tolist()) for row in self.vectors]


Write = Callable[[Block], object]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of a graph.

    Attributes:
        vocabulary: the labels, by id.
        vectors: by kind, in the order of the files, `(rows, d)` float32 each. There are as many
            inverse relations as relations, or none.
        names: readable names of some labels, if there are any.
    """

    vocabulary: Vocabulary
    vectors: dict[str, Tensor]
    names: Mapping[str, str] | None = None

    @property
    def dim(self) -> int:
        """The numbers in a row, d."""
        return self.vectors["entity"].shape[1]

    def blocks(self) -> Iterator[Block]:
        """All rows, a few megabytes at a time."""
        size = max(1, BLOCK // self.dim)
        for kind, vectors in self.vectors.items():
            labels = labels_of(self.vocabulary, kind)
            for start in range(0, len(vectors), size):
                ids = range(start, min(start + size, len(vectors)))
                rows = vectors[ids.start : ids.stop].numpy()
                rows = np.ascontiguousarray(rows, dtype="<f4")
                yield Block(kind, ids, labels[ids.start : ids.stop], rows)


def labels_of(vocabulary: Vocabulary, kind: str) -> tuple[str, ...]:
    """The labels of a kind, by id."""
    return vocabulary.entities if kind == "entity" else vocabulary.relations


def check_embeddings(
    vocabulary: Vocabulary,
    entities: Tensor,
    relations: Tensor,
    names: Mapping[str, str] | None = None,
) -> Embeddings:
    """The embeddings, once they are known to fit; see `kgtool.export.export_embeddings`."""
    num_entities, num_relations = len(vocabulary.entities), len(vocabulary.relations)
    if entities.ndim != 2 or len(entities) != num_entities or not entities.shape[1]:
        raise ValueError(f"entities: {tuple(entities.shape)} is not ({num_entities}, d)")
    dim = entities.shape[1]
    if relations.shape not in ((num_relations, dim), (2 * num_relations, dim)):
        raise ValueError(
            f"relations: {tuple(relations.shape)} is neither ({num_relations}, {dim}) "
            f"nor ({2 * num_relations}, {dim})"
        )
    vectors = {
        "entity": entities,
        "relation": relations[:num_relations],
        "inverse_relation": relations[num_relations:],
    }
    checked = {
        kind: _checked(kind, labels_of(vocabulary, kind), rows) for kind, rows in vectors.items()
    }
    return Embeddings(vocabulary, checked, names)


def _checked(kind: str, labels: Sequence[str], vectors: Tensor) -> Tensor:
    for label in labels:
        if UNFIT.search(label):
            raise DataError(
                f"the label {label!r} ({kind}) holds a tab, a line break or half a surrogate pair, "
                "which a TSV cannot hold. Rename it in the data."
            )
    vectors = vectors.detach().cpu().float()
    for start in range(0, len(vectors), 1024):  # the test takes as much memory as what it tests
        finite = vectors[start : start + 1024].isfinite().all(1)
        if not finite.all():
            label = labels[start + int(finite.int().argmin())]
            raise KGToolError(
                f"the embedding of {label!r} ({kind}) holds NaN or numbers that float32 cannot. "
                "Export an earlier checkpoint, or train again with a lower learning rate."
            )
    return vectors
