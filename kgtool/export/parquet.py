"""One table of all embeddings as Parquet: `embeddings.parquet`.

Columns `kind`, `label`, with readable names also `name` (texts, as in `embeddings.tsv`), and
`vector`, a list of d float32 numbers.
Vector functions take one column of lists, not one column per number. DuckDB reads `FLOAT[]`
(`list_cosine_similarity`; cast to `FLOAT[d]` for an index). polars reads an `Array` whose
`to_numpy()` is the `(rows, d)` matrix. In pandas the matrix is `np.stack(frame["vector"])`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kgtool.export.embeddings import Block, Embeddings, Write, name_of
from kgtool.storage.files import atomic_write

FILES: tuple[str, ...] = ("embeddings.parquet",)


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the table, with a row group per block; see `kgtool.export.Form`."""
    file = stack.enter_context(atomic_write(folder / FILES[0], "wb"))
    vector = pa.list_(pa.float32(), embeddings.dim)
    names = embeddings.names
    named = {} if names is None else {"name": pa.string()}
    schema = pa.schema({"kind": pa.string(), "label": pa.string(), **named, "vector": vector})
    # A dictionary saves space only for repeated values, and only kinds repeat.
    writer = stack.enter_context(pq.ParquetWriter(file, schema, use_dictionary=["kind"]))

    def write(block: Block) -> None:
        numbers = pa.array(block.vectors.reshape(-1))
        columns = [
            pa.repeat(block.kind, len(block.ids)),
            pa.array(block.labels, pa.string()),
            *([] if names is None else [pa.array(_names(block, names), pa.string())]),
            pa.FixedSizeListArray.from_arrays(numbers, type=vector),
        ]
        writer.write_batch(pa.record_batch(columns, schema=schema))

    return write


def _names(block: Block, names: Mapping[str, str]) -> list[str]:
    return [name_of(label, block.kind, names) for label in block.labels]
