"""One table of all embeddings as text: `embeddings.tsv`.

The header is `kind, label, 0, 1, …, d-1`; there is a row per embedding. `kind` is `entity`,
`relation` or `inverse_relation`; an inverse has the label of its relation. With readable names, a
column `name` follows `label`. Read the file with
`pd.read_csv(path, sep="\\t", dtype={"label": str}, keep_default_na=False, quoting=3)`; otherwise
labels such as `NA` and `"quoted` are lost.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from kgtool.export.embeddings import Block, Embeddings, Write, name_of
from kgtool.storage.files import atomic_write

FILES: tuple[str, ...] = ("embeddings.tsv",)


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the table and write its header; see `kgtool.export.Form`."""
    file = stack.enter_context(atomic_write(folder / FILES[0]))
    names = embeddings.names
    named = [] if names is None else ["name"]
    file.write("\t".join(["kind", "label", *named, *map(str, range(embeddings.dim))]) + "\n")

    def write(block: Block) -> None:
        for label, row in zip(block.labels, block.rows, strict=True):
            name = "" if names is None else name_of(label, block.kind, names) + "\t"
            file.write(f"{block.kind}\t{label}\t{name}{row}\n")

    return write
