"""Bring a data set into this tool's own shape."""

from __future__ import annotations

from pathlib import Path

from kgtool.data.loaders import LOOK, LoadReport, Reading, load_negatives, load_with_report
from kgtool.data.loaders.write import check_folder, write_dataset


def convert(
    place: str | Path, out: str | Path, reading: Reading = LOOK
) -> tuple[LoadReport, list[Path]]:
    """Write a data set as TSV: `train.txt`, `valid.txt` and `test.txt`, and negatives if any.

    Args:
        place: a folder or archive, in any shape that `kgtool.load_dataset` reads.
        out: the folder to write, new or empty, or with nothing but the three files.
        reading: what the files' names and first lines do not say.

    Returns:
        The report on the data set, and the files written.

    Raises:
        DataError: when the data cannot be used, or the folder holds other files of triples.
        KGToolError: when a file cannot be written.
    """
    check_folder(Path(out))
    data, report = load_with_report(place, reading=reading)
    negatives = load_negatives(place, data.vocabulary, reading)
    return report, write_dataset(data, Path(out), negatives)
