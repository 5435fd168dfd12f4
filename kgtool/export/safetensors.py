"""Three tensors in one file: `embeddings.safetensors`.

`entities`, `relations` and `inverse_relations` (no rows where the model has none), `(rows, d)`
float32. The metadata holds the labels: under `entities` and `relations`, a JSON list by id, as in
`json.loads(safetensors.safe_open(path, "np").metadata()["entities"])`.

The library writes only what is in memory as a whole, so the header is written here, 8 bytes for its
length and then JSON (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from kgtool.errors import KGToolError
from kgtool.export.embeddings import Block, Embeddings, Write
from kgtool.files import atomic_write

FILES: tuple[str, ...] = ("embeddings.safetensors",)

_NAMES = {"entity": "entities", "relation": "relations", "inverse_relation": "inverse_relations"}
_LONGEST_HEADER = 100_000_000  # bytes; readers refuse longer ones


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the file and write its header; see `kgtool.export.Form`."""
    header = _header(embeddings)
    if len(header) > _LONGEST_HEADER:
        raise KGToolError(
            f"the labels take {len(header):,} bytes, more than a safetensors file can hold beside "
            "its tensors. Remedy: choose other forms."
        )
    file = stack.enter_context(atomic_write(folder / FILES[0], "wb"))
    file.write(len(header).to_bytes(8, "little") + header)

    def write(block: Block) -> None:
        file.write(block.vectors.data)

    return write


def _header(embeddings: Embeddings) -> bytes:
    """Where each tensor lies behind the header, and the labels; spaces to a multiple of 8 bytes."""
    vocabulary = embeddings.vocabulary
    labels = {"entities": vocabulary.entities, "relations": vocabulary.relations}
    written = {name: json.dumps(list(own), ensure_ascii=False) for name, own in labels.items()}
    header: dict[str, object] = {"__metadata__": written}
    end = 0
    for kind, vectors in embeddings.vectors.items():
        begin, end = end, end + 4 * vectors.numel()
        shape = list(vectors.shape)
        header[_NAMES[kind]] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)
