"""The embeddings to export: labelled rows of float32, checked once and iterated in blocks."""

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

# A TSV label cannot hold the first three characters; UTF-8 cannot encode a lone surrogate.
UNFIT = re.compile("[\t\n\r\ud800-\udfff]")

BLOCK = 2**20  # numbers: 4 MiB of float32, 13 MB of text, a row group of Parquet


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of one kind, in id order.

    Attributes:
        kind: `entity`, `relation` or `inverse_relation`.
        ids: the ids of the rows; an inverse has the id of its relation.
        labels: the labels of the rows; an inverse has the label of its relation.
        vectors: `(rows, d)` float32, little-endian, contiguous.
    """

    kind: str
    ids: range
    labels: Sequence[str]
    vectors: NDArray[np.float32]

    @cached_property
    def rows(self) -> list[str]:
        """The rows as tab-separated text; reading them gives the same bits.

        Nine significant digits identify a float32, even if the reader parses float64 and its last
        digit is wrong.
        """
        # The # keeps the decimal point, so that no reader parses a column as integers and loses
        # -0.0.
        form = "\t".join(["%#.9g"] * self.vectors.shape[1])
        return [form % tuple(row.tolist()) for row in self.vectors]


def name_of(label: str, kind: str, names: Mapping[str, str]) -> str:
    """The readable name of a row, or its label; that of an inverse relation begins with a ^."""
    name = UNFIT.sub("\N{REPLACEMENT CHARACTER}", names.get(label, label))
    return f"^{name}" if kind == "inverse_relation" else name


Write = Callable[[Block], object]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of a graph.

    Attributes:
        vocabulary: the labels, by id.
        vectors: kind → `(rows, d)` float32, in the order of the files. There are as many inverse
            relations as relations, or none.
        names: label → readable name, or None.
    """

    vocabulary: Vocabulary
    vectors: dict[str, Tensor]
    names: Mapping[str, str] | None = None

    @property
    def dim(self) -> int:
        """The dimension d of the embeddings."""
        return self.vectors["entity"].shape[1]

    def blocks(self) -> Iterator[Block]:
        """All rows, in blocks of a few megabytes."""
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
    """The embeddings, after their checks; see `kgtool.export.export_embeddings`."""
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
                f"the label {label!r} ({kind}) has a tab, a line break or a lone surrogate, so a "
                "TSV file cannot hold it. Remedy: change the label in the data."
            )
    vectors = vectors.detach().cpu().float()
    for start in range(0, len(vectors), 1024):  # in parts: the test needs memory for its result
        finite = vectors[start : start + 1024].isfinite().all(1)
        if not finite.all():
            label = labels[start + int(finite.int().argmin())]
            raise KGToolError(
                f"the embedding of {label!r} ({kind}) has NaN, or numbers too large for float32. "
                "Remedy: export an earlier checkpoint, or train with a lower learning rate."
            )
    return vectors
