"""Writes a data set as a folder of TSV files or DGL graphs; loading it gives the same data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.dgl_graph import write_graph
from kgtool.data.loaders.header import WEIGHT, choose_columns
from kgtool.data.loaders.reading import FIELDS, FORMATS, LOOK
from kgtool.data.loaders.rows import BadLine
from kgtool.data.loaders.sources import NEGATIVES, TYPES, listed
from kgtool.errors import ConfigError, DataError, fault, quoted
from kgtool.storage.files import atomic_write

# The formats that a data set is written in.
WRITTEN = ("tsv", "dgl")
LEFT_OUT = "left_out.txt"  # the triples that a split left out
BAD_LINES = "bad_lines.tsv"  # the lines that are not triples
_STEMS = (*SPLITS, *NEGATIVES.values())
_LINES = 2**18
_UNFIT = re.compile("[\t\n\r\0]")


def is_of_dataset(name: str) -> bool:
    """Whether a file of a data set that kgtool writes has this name."""
    stem, ending = PurePosixPath(name).stem, PurePosixPath(name).suffix
    return name in (LEFT_OUT, BAD_LINES, TYPES) or (
        stem in _STEMS and ending in map(_ending, WRITTEN)
    )


def write_dataset(
    data: KGDataset, folder: Path, negatives: Mapping[str, Tensor] | None = None, to: str = "tsv"
) -> list[Path]:
    """Writes `train.txt`, `valid.txt` and `test.txt`, negatives, and `types.tsv`, if any.

    As DGL graphs they are `train.dgl`, ..., see `kgtool.data.loaders.dgl_graph`. A split with
    weights has a header and a fourth column, `weight`.

    Args:
        data: the data set.
        folder: the output folder; created if it is missing.
        negatives: split → `(n, 3)` int64 false triples.
        to: the format, `"tsv"` or `"dgl"`.

    Returns:
        The files written.

    Raises:
        DataError: for an empty split, a first triple that looks like a header, or a label that a
            TSV file cannot hold.
        KGToolError: if a file cannot be written.
    """
    check_labels(data.vocabulary)
    parts = {split: data.split(split) for split in SPLITS}
    parts |= {NEGATIVES[split]: triples for split, triples in (negatives or {}).items()}
    for stem, triples in parts.items():
        if not len(triples):
            raise DataError(f"{data.name}: {stem} holds no triples. Remedy: add triples to it.")
    files = []
    for stem, triples in parts.items():
        files.append(folder / f"{stem}{_ending(to)}")
        weights = data.weights.get(stem)
        if to == "dgl":
            write_graph(files[-1], triples, data.vocabulary, data.types, weights)
        else:
            extra = {} if weights is None else {WEIGHT: weight_texts(weights)}
            write_triples(files[-1], triples, data.vocabulary, extra, header=bool(extra))
    if data.types:
        files.append(folder / TYPES)
        with atomic_write(files[-1]) as file:
            file.writelines(f"{e}\t{kind}\n" for e, kinds in data.types.items() for kind in kinds)
    return files


def weight_texts(weights: Tensor) -> list[str]:
    """The shortest text of each weight `(n,)` float32 that gives the same number."""
    distinct, number = torch.unique(weights, return_inverse=True)
    texts = [str(value) for value in distinct.numpy()]
    return [texts[i] for i in number.tolist()]


def check_written(to: str) -> None:
    """Raise a ConfigError for a format that data sets are not written in."""
    if to not in WRITTEN:
        raise ConfigError(f"no format {quoted(to)} to write. Remedy: one of {', '.join(WRITTEN)}.")


def _ending(to: str) -> str:
    """The ending of the files of a format that data sets are written in."""
    check_written(to)
    return FORMATS[to][0]


def write_triples(
    path: Path,
    triples: Tensor,
    vocabulary: Vocabulary,
    extra: Mapping[str, Sequence[str]] | None = None,
    *,
    header: bool = False,
) -> None:
    """Writes `head⇥relation⇥tail` lines, with optional further columns.

    Args:
        path: the file.
        triples: `(n, 3)` int64.
        vocabulary: the labels; `check_labels` must have passed.
        extra: name → `n` texts, for the further columns.
        header: whether to write a first line with the names of the columns.

    Raises:
        DataError: for a first triple that looks like a header, or a text that a TSV file cannot
            hold.
        KGToolError: if the file cannot be written.
    """
    tables = (vocabulary.entities, vocabulary.relations, vocabulary.entities)
    first = [labels[i] for labels, i in zip(tables, triples[:1].flatten().tolist())]  # noqa: B905
    if not header and first and choose_columns(first, LOOK, (), str(path)).header:
        remedy = "put another triple first in the data"
        raise fault(path, f"the first triple looks like a header: {listed(first)}", remedy)
    for name, texts in (extra or {}).items():
        unfit = next((text for text in (name, *texts) if _UNFIT.search(text)), None)
        if unfit is not None:
            raise DataError(
                f"the text {quoted(unfit)} of the column {quoted(name)} has a tab, a line break or "
                "a NUL, so a TSV file cannot hold it. Remedy: change the text."
            )
    with atomic_write(path) as file:
        if header:
            file.write("\t".join((*FIELDS, *(extra or {}))) + "\n")
        # a loader drops a leading byte order mark, so a label that begins with one needs another
        elif first and first[0].startswith("\ufeff"):
            file.write("\ufeff")
        for start in range(0, len(triples), _LINES):
            columns: list[Iterable[str]] = [
                map(labels.__getitem__, ids.tolist())
                for labels, ids in zip(tables, triples[start : start + _LINES].t(), strict=True)
            ]
            columns += [texts[start : start + _LINES] for texts in (extra or {}).values()]
            file.write("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n")


def write_bad_lines(folder: Path, lines: Sequence[BadLine]) -> list[Path]:
    """Writes the lines that were left out as the table `BAD_LINES`; no file for none.

    Its columns are `file`, `unit`, `number` and `problem`.

    Returns:
        The file, if written.

    Raises:
        KGToolError: if the file cannot be written.
    """
    if not lines:
        return []
    with atomic_write(folder / BAD_LINES) as file:
        file.write("file\tunit\tnumber\tproblem\n")
        for line in lines:
            cells = (line.file, line.unit, str(line.number), line.problem)
            file.write("\t".join(_UNFIT.sub(" ", cell) for cell in cells) + "\n")
    return [folder / BAD_LINES]


def check_labels(vocabulary: Vocabulary) -> None:
    """Check that a file of triples can hold each label.

    Raises:
        DataError: for a blank label, or one with a tab, line break or NUL.
    """
    for kind, labels in (("entity", vocabulary.entities), ("relation", vocabulary.relations)):
        for label in labels:
            if not label.strip() or _UNFIT.search(label):
                raise DataError(
                    f"the {kind} label {quoted(label)} is blank or has a tab, a line break or a "
                    "NUL, so a TSV file cannot hold it. Remedy: change the label."
                )
