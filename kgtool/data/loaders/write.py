"""Writes a data set as a folder of this tool's own TSV, which reads back as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.header import choose_columns
from kgtool.data.loaders.reading import LOOK
from kgtool.data.loaders.sources import NEGATIVES, listed, split_of
from kgtool.errors import DataError, fault, quoted
from kgtool.storage.files import atomic_write

_STEMS = (*SPLITS, *NEGATIVES.values())
_LINES = 2**18
_UNFIT = re.compile("[\t\n\r\0]")


def check_folder(folder: Path) -> None:
    """Whether a data set may be written to a folder.

    Raises:
        DataError: where it holds files that would be read as splits beside those written.
    """
    if not folder.is_dir():
        return
    ours = {f"{split}.txt" for split in SPLITS}
    others = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name not in ours and (entry.name in _STEMS or split_of(entry.name, LOOK))
    )
    if others:
        raise fault(folder, f"it holds other splits: {listed(others)}", "give another folder")


def write_dataset(
    data: KGDataset, folder: Path, negatives: Mapping[str, Tensor] | None = None
) -> list[Path]:
    """Writes `train.txt`, `valid.txt` and `test.txt`, and negatives beside them.

    Args:
        data: the data set.
        folder: where to; made if it is missing.
        negatives: split → `(n, 3)` int64 triples that do not hold.

    Returns:
        The files written.

    Raises:
        DataError: for an empty split, a first triple that would be read as a header, or a label
            that a file of triples cannot hold.
        KGToolError: when a file cannot be written.
    """
    check_labels(data.vocabulary)
    parts = {split: data.split(split) for split in SPLITS}
    parts |= {NEGATIVES[split]: triples for split, triples in (negatives or {}).items()}
    for stem, triples in parts.items():
        if not len(triples):
            raise DataError(f"{data.name}: {stem} holds no triples. Remedy: give it some.")
    files = []
    for stem, triples in parts.items():
        files.append(folder / f"{stem}.txt")
        write_triples(files[-1], triples, data.vocabulary)
    return files


def write_triples(
    path: Path, triples: Tensor, vocabulary: Vocabulary, extra: Sequence[str] | None = None
) -> None:
    """Writes `head⇥relation⇥tail` lines, with a further column where there is one.

    Args:
        path: the file.
        triples: `(n, 3)` int64.
        vocabulary: their labels, of those that `check_labels` passes.
        extra: `n` texts.

    Raises:
        DataError: for a first triple that would be read as a header.
        KGToolError: when the file cannot be written.
    """
    tables = (vocabulary.entities, vocabulary.relations, vocabulary.entities)
    first = [labels[i] for labels, i in zip(tables, triples[:1].flatten().tolist())]  # noqa: B905
    if first and choose_columns(first, LOOK, None, str(path)).header:
        remedy = "let another triple come first in the data"
        raise fault(path, f"the first triple reads as a header: {listed(first)}", remedy)
    with atomic_write(path) as file:
        # a byte order mark is dropped on reading, so a label's own needs one before it
        if first and first[0].startswith("\ufeff"):
            file.write("\ufeff")
        for start in range(0, len(triples), _LINES):
            columns: list[Iterable[str]] = [
                map(labels.__getitem__, ids.tolist())
                for labels, ids in zip(tables, triples[start : start + _LINES].t(), strict=True)
            ]
            if extra is not None:
                columns.append(extra[start : start + _LINES])
            file.write("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n")


def check_labels(vocabulary: Vocabulary) -> None:
    """Whether a file of triples can hold each label.

    Raises:
        DataError: for a blank one, or one with a tab, line break or NUL in it.
    """
    for kind, labels in (("entity", vocabulary.entities), ("relation", vocabulary.relations)):
        for label in labels:
            if not label.strip() or _UNFIT.search(label):
                raise DataError(
                    f"the {kind} {quoted(label)} is blank, or holds a tab, a line break or a NUL, "
                    "which a file of triples cannot hold. Remedy: give it another label."
                )
