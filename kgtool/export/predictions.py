"""Predictions as files: a table, or N-Triples with confidence; the ending says which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from kgtool.data.dataset import Vocabulary
from kgtool.errors import DataError
from kgtool.export.ntriples import Prediction, write_predictions
from kgtool.storage.tables import WRITTEN, save_table

ENDINGS = (*WRITTEN, ".nt")


def save_predictions(frame: pd.DataFrame, path: str | Path, vocabulary: Vocabulary) -> None:
    """Write what `kgtool.predict` or `kgtool.complete` gives, whole or not at all.

    Args:
        frame: with `head`, `relation`, `tail`, `score` and `probability`.
        path: a `.tsv`, `.jsonl` or `.parquet`, or an `.nt`, see `kgtool.export.ntriples`.
        vocabulary: the labels, which say what the inverse of a relation is.

    Raises:
        DataError: for another ending, or an answer to a path, which is no triple, as `.nt`.
        KGToolError: when the file cannot be written.
    """
    path = checked(path)
    if path.suffix == ".nt":
        write_predictions(path, _rows(frame, path, vocabulary))
    else:
        save_table(frame, path)


def checked(path: str | Path) -> Path:
    """A path whose ending says what to write; to be asked before long work.

    Raises:
        DataError: for another ending.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise DataError(f"{path}: no such form. Remedy: end it in {', '.join(ENDINGS)}.")
    return path


def _rows(frame: pd.DataFrame, path: Path, vocabulary: Vocabulary) -> Iterator[Prediction]:
    for row in frame.itertuples():
        relation = vocabulary.step_ids.get(row.relation)
        if relation is None:
            raise DataError(
                f"{path}: the path {row.relation!r} is no relation of a triple. Remedy: write a "
                f"{ENDINGS[0]}."
            )
        direct = relation < len(vocabulary.relations)
        head, tail = (row.head, row.tail) if direct else (row.tail, row.head)
        label = vocabulary.relations[relation % len(vocabulary.relations)]
        chance = None if pd.isna(row.probability) else row.probability
        yield head, label, tail, row.score, chance
