"""Exports embeddings in the formats of other tools: one module per format, in the table `FORMS`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.errors import ConfigError, nearest, quoted
from kgtool.export import npy, parquet, projector, safetensors, tsv, word2vec
from kgtool.export.embeddings import Embeddings, Write, check_embeddings


class Form(Protocol):
    """The interface of a format's module."""

    @property
    def FILES(self) -> tuple[str, ...]:
        """The names of the output files."""

    def start(self, stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
        """Open the files on the stack; the returned function writes a block of rows, in order."""


FORMS: dict[str, Form] = {
    "tsv": tsv,
    "projector": projector,
    "word2vec": word2vec,
    "npy": npy,
    "parquet": parquet,
    "safetensors": safetensors,
}


def export_embeddings(
    vocabulary: Vocabulary,
    entities: Tensor,
    relations: Tensor,
    out: str | Path,
    forms: Iterable[str] = tuple(FORMS),
    *,
    names: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the embeddings of entities and relations into the folder `out`.

    Every format has the same float32 numbers, bit for bit, in id order: entities, relations,
    inverse relations. The docstring of a format's module shows how to read it:

    - `tsv`: one table with a row per embedding;
    - `projector`: for `tensorboard --logdir OUT`;
    - `word2vec`: text for gensim and similar tools;
    - `npy`: NumPy matrices and id maps, as written by DGL-KE;
    - `parquet`: one table for pandas, polars, DuckDB;
    - `safetensors`: three tensors, the labels in the metadata.

    Rows are written in blocks, so the memory holds no second copy. Each file is replaced completely
    or not at all, and only after all files are written.

    Args:
        vocabulary: the labels, by id.
        entities: `(num_entities, d)`, floating point, finite; written as float32.
        relations: `(num_relations, d)`, or `(2 * num_relations, d)` with the inverses.
        out: the folder; created if it is missing.
        forms: keys of `FORMS`; all by default.
        names: label → readable name, for the projector's points and the tables.

    Returns:
        The paths written, in the order of the formats.

    Raises:
        ValueError: if the shapes do not fit the vocabulary or each other.
        ConfigError: for an unknown format, for no format, or for names without a format for them.
        DataError: if a label has a tab, a line break or another character that TSV cannot hold.
        KGToolError: if an embedding is NaN or infinite in float32, or a file cannot be written.
    """
    forms = known_forms(forms)
    if names is not None and not {"tsv", "projector", "parquet"} & set(forms):
        raise ConfigError(
            "readable names are for the formats tsv, projector and parquet. Remedy: add one of "
            "them, or do not pass names."
        )
    embeddings = check_embeddings(vocabulary, entities, relations, names)
    folder = Path(out)
    with ExitStack() as stack:
        writes = [FORMS[form].start(stack, folder, embeddings) for form in forms]
        for block in embeddings.blocks():
            for write in writes:
                write(block)
    return [folder / name for form in forms for name in FORMS[form].FILES]


def known_forms(forms: Iterable[str]) -> tuple[str, ...]:
    """The formats, without duplicates.

    Raises:
        ConfigError: for an unknown format, or for no format.
    """
    distinct = tuple(dict.fromkeys(forms))
    for form in distinct:
        if form not in FORMS:
            near = nearest(form, FORMS)
            hint = f"did you mean {near}?" if near else f"use one of {', '.join(FORMS)}."
            raise ConfigError(f"unknown export format {quoted(form)}. Remedy: {hint}")
    if not distinct:
        raise ConfigError(f"no export format. Remedy: use one of {', '.join(FORMS)}.")
    return distinct
