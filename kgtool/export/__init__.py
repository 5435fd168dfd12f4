"""Export of embeddings to the formats of other tools: a module each, in the table `FORMS`."""

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
    """What the module of a form has."""

    @property
    def FILES(self) -> tuple[str, ...]:
        """The names of its files."""

    def start(self, stack: ExitStack, folder: Path, embeddings: Embeddings) -> Write:
        """Open its files on the stack; what is returned takes the blocks of rows, in order."""


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
    names: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the embeddings of entities and relations into the folder `out`.

    Every form holds the same float32 numbers, bit for bit, in id order: entities, relations,
    inverse relations. How to read one says its module's docstring:

    - `tsv`: one table with a row an embedding;
    - `projector`: `tensorboard --logdir OUT` shows them;
    - `word2vec`: text for gensim and its kin;
    - `npy`: NumPy matrices and id maps, as DGL-KE leaves them;
    - `parquet`: one table for pandas, polars, DuckDB;
    - `safetensors`: three tensors, the labels in the metadata.

    Rows are written a block at a time, so that no second copy of them is in memory. Each file is
    replaced whole or not at all, and none before all are written.

    Args:
        vocabulary: the labels, by id.
        entities: `(num_entities, d)`, floating point, finite; written as float32.
        relations: `(num_relations, d)`, or `(2 * num_relations, d)` with the inverses.
        out: the folder; made when it is missing.
        forms: keys of `FORMS`; all by default.
        names: readable names of some labels, for the projector's points.

    Returns:
        The paths written, in the order of the forms.

    Raises:
        ValueError: when the shapes do not fit the vocabulary or each other.
        ConfigError: for an unknown form, for none, or for names without the projector.
        DataError: when a label holds a tab, a line break or another character no TSV can hold.
        KGToolError: when an embedding is NaN or infinite in float32, or a file cannot be written.
    """
    forms = known_forms(forms)
    if names is not None and "projector" not in forms:
        raise ConfigError(
            "readable labels name the points of the projector, which is not among the forms. "
            "Remedy: add projector, or leave the labels out."
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
    """The forms, each once.

    Raises:
        ConfigError: when one is unknown, or there is none.
    """
    found = tuple(dict.fromkeys(forms))
    for form in found:
        if form not in FORMS:
            near = nearest(form, FORMS)
            hint = f"did you mean {near}?" if near else f"one of {', '.join(FORMS)}."
            raise ConfigError(f"no form {quoted(form)}. Remedy: {hint}")
    if not found:
        raise ConfigError(f"no form to export. Remedy: one of {', '.join(FORMS)}.")
    return found
