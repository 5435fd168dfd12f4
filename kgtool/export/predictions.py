"""Writes predictions as a table, or as N-Triples with confidence, by the file's ending."""

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
    """Write the predictions of `kgtool.predict`, `kgtool.complete` or `kgtool.score_triples`.

    The file is written completely or not at all. N-Triples leave out triples without a score.

    Args:
        frame: with columns `head`, `relation`, `tail`, `score` and `probability`.
        path: a `.tsv`, `.jsonl` or `.parquet` file, or `.nt`, see `kgtool.export.ntriples`.
        vocabulary: the labels, to recognise inverse relations.

    Raises:
        DataError: for any other ending, or an answer to a path in an `.nt` file.
        KGToolError: if the file cannot be written.
    """
    path = checked(path)
    if path.suffix == ".nt":
        write_predictions(path, _rows(frame, path, vocabulary))
    else:
        save_table(frame, path)


def checked(path: str | Path) -> Path:
    """The path, if its ending is supported; call it before long work.

    Raises:
        DataError: for any other ending.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        supported = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise DataError(f"{path}: unsupported output format. Remedy: use {supported}.")
    return path


def _rows(frame: pd.DataFrame, path: Path, vocabulary: Vocabulary) -> Iterator[Prediction]:
    if "reason" in frame:
        frame = frame[frame["reason"] == ""]
    for row in frame.itertuples():
        relation = vocabulary.step_ids.get(row.relation)
        if relation is None:
            raise DataError(
                f"{path}: the path {row.relation!r} is not a relation, so N-Triples cannot hold "
                f"it. Remedy: write a {ENDINGS[0]} file."
            )
        direct = relation < len(vocabulary.relations)
        head, tail = (row.head, row.tail) if direct else (row.tail, row.head)
        label = vocabulary.relations[relation % len(vocabulary.relations)]
        chance = None if pd.isna(row.probability) else row.probability
        yield head, label, tail, row.score, chance
