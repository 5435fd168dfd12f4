"""Writes a data set as a folder of this tool's own TSV, which reads back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from torch import Tensor

from kgtool.files import atomic_write
from kgtool.loaders.faults import fault
from kgtool.loaders.header import choose_columns
from kgtool.loaders.reading import LOOK
from kgtool.loaders.sources import NEGATIVES, listed, split_of
from kgtool.triples import SPLITS, KGDataset, Vocabulary

_STEMS = (*SPLITS, *NEGATIVES.values())
_LINES = 2**16


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
        DataError: for a first triple that would be read as a header.
        KGToolError: when a file cannot be written.
    """
    parts = {split: data.split(split) for split in SPLITS}
    parts |= {NEGATIVES[split]: triples for split, triples in (negatives or {}).items()}
    files = []
    for stem, triples in parts.items():
        files.append(folder / f"{stem}.txt")
        _write(triples, data.vocabulary, files[-1])
    return files


def _write(triples: Tensor, names: Vocabulary, path: Path) -> None:
    entities, relations = names.entities, names.relations
    rows = (
        (entities[head], relations[relation], entities[tail])
        for chunk in triples.split(_LINES)
        for head, relation, tail in chunk.tolist()
    )
    first = list(islice(rows, 1))
    if first and choose_columns(first[0], LOOK, None, str(path)).header:
        remedy = "let another triple come first in the data"
        raise fault(path, f"the first triple reads as a header: {listed(first[0])}", remedy)
    with atomic_write(path) as file:
        # a byte order mark is dropped on reading, so a label's own needs one before it
        if first and first[0][0].startswith("\ufeff"):
            file.write("\ufeff")
        file.writelines("\t".join(row) + "\n" for row in first)
        file.writelines("\t".join(row) + "\n" for row in rows)
