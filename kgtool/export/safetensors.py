"""Three tensors in one file: `embeddings.safetensors`.

`entities`, `relations` and `inverse_relations` (no rows where the model has none), `(rows, d)`
float32. The metadata holds the labels: under `entities` and `relations`, a JSON list by id, as in
`json.loads(safetensors.safe_open(path, "np").metadata()["entities"])`.

The rows are written in blocks, after a header that this module makes: the library can only write
tensors that are completely in memory.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import torch

from kgtool.errors import KGToolError
from kgtool.export.embeddings import Block, Embeddings, Write
from kgtool.storage.checkpoint import safetensors_header
from kgtool.storage.files import atomic_write

FILES: tuple[str, ...] = ("embeddings.safetensors",)

_NAMES = {"entity": "entities", "relation": "relations", "inverse_relation": "inverse_relations"}
_LONGEST_HEADER = 100_000_000  # bytes; readers refuse longer ones


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the file and write its header; see `kgtool.export.Form`."""
    header = _header(embeddings)
    if len(header) - 8 > _LONGEST_HEADER:
        raise KGToolError(
            f"the labels need {len(header):,} bytes, too many for the header of a safetensors "
            "file. Remedy: choose other formats."
        )
    file = stack.enter_context(atomic_write(folder / FILES[0], "wb"))
    file.write(header)

    def write(block: Block) -> None:
        file.write(block.vectors.data)

    return write


def _header(embeddings: Embeddings) -> bytes:
    """The header, with the offsets of the tensors and the labels."""
    vocabulary = embeddings.vocabulary
    labels = {"entities": vocabulary.entities, "relations": vocabulary.relations}
    shapes = {
        _NAMES[kind]: (torch.float32, vectors.shape) for kind, vectors in embeddings.vectors.items()
    }
    written = {name: json.dumps(list(own), ensure_ascii=False) for name, own in labels.items()}
    return safetensors_header(shapes, written)
