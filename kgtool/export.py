"""Embeddings as text for other tools: a table, the TensorBoard projector, word2vec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from kgtool.errors import DataError, KGToolError
from kgtool.files import atomic_write
from kgtool.triples import Vocabulary

FILES = (
    "embeddings.tsv",
    "projector_vectors.tsv",
    "projector_metadata.tsv",
    "entities.word2vec.txt",
    "relations.word2vec.txt",
)

# A TSV has no way to write the first three inside a label, UTF-8 none for half a surrogate pair.
_UNFIT = re.compile("[\t\n\r\ud800-\udfff]")


def export_embeddings(
    vocabulary: Vocabulary, entities: Tensor, relations: Tensor, out: str | Path
) -> list[Path]:
    """Write the embeddings of entities and relations into the folder `out`, as UTF-8 text.

    Numbers have 9 significant digits, enough for float32 to read back bit by bit, and always a
    decimal point. The rows of every file are in id order: entities, relations, inverse relations.

    - `embeddings.tsv`: a header `kind, label, 0, 1, …, d-1` and a row per embedding; `kind` is
      `entity`, `relation` or `inverse_relation`, an inverse under the label of its relation. Read
      it with `pd.read_csv(path, sep="\\t", dtype={"label": str}, keep_default_na=False,
      quoting=3)`, or labels such as `NA` and `"quoted` are lost.
    - `projector_vectors.tsv` (numbers only) and `projector_metadata.tsv` (`label, kind`, with that
      header): the same rows, for "Load" in the TensorBoard projector.
    - `entities.word2vec.txt` and `relations.word2vec.txt`: `count d`, then `label v1 … vd` a line,
      for gensim's `KeyedVectors.load_word2vec_format`. As spaces part the fields, each whitespace
      character of a label becomes `_`, and an empty label becomes `_`; the inverse of `r` is
      `r_inverse`. Where that would give a label twice, a label that needed no change keeps its
      form, and the others get `_2`, `_3`, … in id order.

    Each file is replaced whole or not at all, and none before all are formatted.

    Args:
        vocabulary: the labels, by id.
        entities: `(num_entities, d)`, floating point, finite; written as float32.
        relations: `(num_relations, d)`, or `(2 * num_relations, d)` with the inverses.
        out: the folder; made when it is missing.

    Returns:
        The paths written, in the order of `FILES`.

    Raises:
        ValueError: when the shapes do not fit the vocabulary or each other.
        DataError: when a label holds a tab, a line break or another character no TSV can hold.
        KGToolError: when an embedding is NaN or infinite in float32, or a file cannot be written.
    """
    blocks = _blocks(vocabulary, entities, relations)
    words = _words(vocabulary)
    dim = entities.shape[1]
    paths = [Path(out) / name for name in FILES]
    with ExitStack() as stack:
        table, numbers, metadata, entity_words, relation_words = (
            stack.enter_context(atomic_write(path)) for path in paths
        )
        table.write("\t".join(["kind", "label", *map(str, range(dim))]) + "\n")
        metadata.write("label\tkind\n")
        entity_words.write(f"{len(entities)} {dim}\n")
        relation_words.write(f"{len(relations)} {dim}\n")
        for kind, labels, vectors in blocks:
            word2vec = entity_words if kind == "entity" else relation_words
            for label, word, row in zip(labels, words[kind], _rows(vectors), strict=True):
                table.write(f"{kind}\t{label}\t{row}\n")
                numbers.write(f"{row}\n")
                metadata.write(f"{label}\t{kind}\n")
                word2vec.write(f"{word} {row}\n".replace("\t", " "))
    return paths


def _blocks(
    vocabulary: Vocabulary, entities: Tensor, relations: Tensor
) -> list[tuple[str, tuple[str, ...], Tensor]]:
    """Kind, labels and checked float32 vectors, a row a label; no inverses where none are given."""
    num_entities, num_relations = len(vocabulary.entities), len(vocabulary.relations)
    if entities.ndim != 2 or len(entities) != num_entities or not entities.shape[1]:
        raise ValueError(f"entities: {tuple(entities.shape)} is not ({num_entities}, d)")
    dim = entities.shape[1]
    if relations.shape not in ((num_relations, dim), (2 * num_relations, dim)):
        raise ValueError(
            f"relations: {tuple(relations.shape)} is neither ({num_relations}, {dim}) "
            f"nor ({2 * num_relations}, {dim})"
        )
    blocks = [
        ("entity", vocabulary.entities, entities),
        ("relation", vocabulary.relations, relations[:num_relations]),
    ]
    if len(relations) > num_relations:
        blocks.append(("inverse_relation", vocabulary.relations, relations[num_relations:]))
    return [(kind, labels, _checked(kind, labels, vectors)) for kind, labels, vectors in blocks]


def _checked(kind: str, labels: Sequence[str], vectors: Tensor) -> Tensor:
    for label in labels:
        if _UNFIT.search(label):
            raise DataError(
                f"the label {label!r} ({kind}) holds a tab, a line break or half a surrogate pair, "
                "which a TSV cannot hold. Rename it in the data."
            )
    vectors = vectors.cpu().float()
    finite = vectors.isfinite().all(1)
    if not finite.all():
        label = labels[int(finite.int().argmin())]
        raise KGToolError(
            f"the embedding of {label!r} ({kind}) holds NaN or numbers that float32 cannot. "
            "Export an earlier checkpoint, or train again with a lower learning rate."
        )
    return vectors


def _rows(vectors: Tensor) -> Iterator[str]:
    """The rows of `(n, d)` float32 vectors as text, a tab between the numbers."""
    # The # keeps the decimal point, so that no reader takes a column for integers and loses -0.0.
    form = "\t".join(["%#.9g"] * vectors.shape[1])
    for start in range(0, len(vectors), 1024):  # a Python float takes 32 bytes
        for row in vectors[start : start + 1024].tolist():
            yield form % tuple(row)


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
