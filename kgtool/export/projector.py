"""Files for the TensorBoard projector: `tensorboard --logdir FOLDER`, or "Load" on its page.

`projector_config.pbtxt` names the other two files. `projector_vectors.tsv` has the numbers, without
a header. `projector_metadata.tsv` has a row for each vector, with the header `label, kind`. With
readable names, the first column is `name`, which the projector shows. A label without a name is its
own name; the inverse of a relation has the name of the relation after a `^`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from kgtool.export.embeddings import Block, Embeddings, Write, name_of
from kgtool.storage.files import atomic_write

FILES: tuple[str, ...] = (
    "projector_vectors.tsv",
    "projector_metadata.tsv",
    "projector_config.pbtxt",
)

# A ProjectorConfig message of tensorboard/plugins/projector/projector_config.proto.
_CONFIG = """\
embeddings {{
  tensor_name: "embeddings"
  tensor_path: "{}"
  metadata_path: "{}"
}}
"""


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the files, write header and configuration; see `kgtool.export.Form`."""
    numbers, metadata, config = (stack.enter_context(atomic_write(folder / n)) for n in FILES)
    config.write(_CONFIG.format(*FILES))
    names = embeddings.names
    metadata.write("label\tkind\n" if names is None else "name\tlabel\tkind\n")

    def write(block: Block) -> None:
        numbers.writelines(f"{row}\n" for row in block.rows)
        for label in block.labels:
            name = "" if names is None else name_of(label, block.kind, names) + "\t"
            metadata.write(f"{name}{label}\t{block.kind}\n")

    return write
