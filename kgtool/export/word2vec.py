"""word2vec text format, for gensim's `KeyedVectors.load_word2vec_format` and similar readers.

`entities.word2vec.txt` and `relations.word2vec.txt`: a line `count d`, then lines `label v1 … vd`.
Spaces separate the fields, so each whitespace character of a label becomes `_`, and an empty label
becomes `_`. The inverse of `r` is `r_inverse`. If two labels become equal, an unchanged label keeps
its form, and the others get `_2`, `_3`, … in id order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from kgtool.data.dataset import Vocabulary
from kgtool.export.embeddings import Block, Embeddings, Write
from kgtool.storage.files import atomic_write

FILES: tuple[str, ...] = ("entities.word2vec.txt", "relations.word2vec.txt")


def start(stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
    """Open the files and write their first lines; see `kgtool.export.Form`."""
    entities, relations = (stack.enter_context(atomic_write(folder / name)) for name in FILES)
    tokens = _tokens(embeddings.vocabulary)
    counts = {kind: len(vectors) for kind, vectors in embeddings.vectors.items()}
    entities.write(f"{counts['entity']} {embeddings.dim}\n")
    relations.write(f"{counts['relation'] + counts['inverse_relation']} {embeddings.dim}\n")

    def write(block: Block) -> None:
        file = entities if block.kind == "entity" else relations
        own = tokens[block.kind][block.ids.start : block.ids.stop]
        pairs = zip(own, block.rows, strict=True)
        file.writelines(f"{token} {row}\n".replace("\t", " ") for token, row in pairs)

    return write


def _tokens(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Kind → the tokens of its labels: without whitespace, and distinct within a file."""
    relations = [*vocabulary.relations, *(f"{label}_inverse" for label in vocabulary.relations)]
    tokens = _distinct_tokens(relations)
    return {
        "entity": _distinct_tokens(vocabulary.entities),
        "relation": tokens[: len(vocabulary.relations)],
        "inverse_relation": tokens[len(vocabulary.relations) :],
    }


def _distinct_tokens(labels: Sequence[str]) -> list[str]:
    tokens = [re.sub(r"\s", "_", label) or "_" for label in labels]
    taken = {token for token, label in zip(tokens, labels, strict=True) if token == label}
    unchanged: set[str] = set()
    for i, (token, label) in enumerate(zip(tokens, labels, strict=True)):
        if token == label and token not in unchanged:
            unchanged.add(token)
            continue
        number = 2
        while tokens[i] in taken:
            tokens[i] = f"{token}_{number}"
            number += 1
        taken.add(tokens[i])
    return tokens
