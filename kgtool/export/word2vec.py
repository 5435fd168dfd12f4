"""word2vec text, for gensim's `KeyedVectors.load_word2vec_format` and its kin.

`entities.word2vec.txt` and `relations.word2vec.txt`: `count d`, then `label v1 … vd` a line. As
spaces part the fields, each whitespace character of a label becomes `_`, and an empty label becomes
`_`; the inverse of `r` is `r_inverse`. Where that would give a label twice, a label that needed no
change keeps its form, and the others get `_2`, `_3`, … in id order.
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
    words = _words(embeddings.vocabulary)
    counts = {kind: len(vectors) for kind, vectors in embeddings.vectors.items()}
    entities.write(f"{counts['entity']} {embeddings.dim}\n")
    relations.write(f"{counts['relation'] + counts['inverse_relation']} {embeddings.dim}\n")

    def write(block: Block) -> None:
        file = entities if block.kind == "entity" else relations
        own = words[block.kind][block.ids.start : block.ids.stop]
        pairs = zip(own, block.rows, strict=True)
        file.writelines(f"{word} {row}\n".replace("\t", " ") for word, row in pairs)

    return write


def _words(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """The word2vec name of each label, by kind: without whitespace, and distinct in its file."""
    relations = [*vocabulary.relations, *(f"{label}_inverse" for label in vocabulary.relations)]
    named = _distinct_words(relations)
    return {
        "entity": _distinct_words(vocabulary.entities),
        "relation": named[: len(vocabulary.relations)],
        "inverse_relation": named[len(vocabulary.relations) :],
    }


def _distinct_words(labels: Sequence[str]) -> list[str]:
    words = [re.sub(r"\s", "_", label) or "_" for label in labels]
    taken = {word for word, label in zip(words, labels, strict=True) if word == label}
    kept: set[str] = set()
    for i, (word, label) in enumerate(zip(words, labels, strict=True)):
        if word == label and word not in kept:
            kept.add(word)
            continue
        number = 2
        while words[i] in taken:
            words[i] = f"{word}_{number}"
            number += 1
        taken.add(words[i])
    return words
