"""Compare runs that answered the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from kgtool.api.runs import AnyRun, is_data, pretrained, unwrapped
from kgtool.errors import DataError
from kgtool.evaluation.analysis.rank_table import read_matched
from kgtool.evaluation.analysis.significance import compare as compare_ranks
from kgtool.evaluation.metrics import HITS
from kgtool.runs.run import Run


def compare(
    runs: Sequence[AnyRun], split: str = "test", hits: Sequence[int] = HITS
) -> pd.DataFrame:
    """Metrics of several runs side by side; a paired bootstrap tests each difference.

    Args:
        runs: two or more, evaluated on the same queries: runs or their folders, with the ranks that
            `evaluate` wrote, or files of ranks, also from another tool. A folder of data, or the
            name of a fetched data set, stands for pre-trained weights on it.
        split: the split whose ranks are read from a folder.
        hits: the k of Hits@k.

    Returns:
        The table of `kgtool.evaluation.analysis.significance`; the runs' names are those of
        `compared_names`.

    Raises:
        DataError: when ranks are missing, or cannot be compared.
    """
    places = [Path(run.path if isinstance(run, Run) else run) for run in map(unwrapped, runs)]
    names = compared_names(places)
    queries, groups = read_matched([ranks_file(place, split) for place in places])
    return compare_ranks(dict(zip(names, queries, strict=True)), groups, hits)


def ranks_file(place: Path, split: str) -> Path:
    """The file of a split's ranks in a folder, or the file that `place` is.

    For data, the folder is that of the run of pre-trained weights on it.

    Raises:
        DataError: when the folder has none, or there is neither.
    """
    name = f"ranks.{split}.tsv"
    if not place.is_file() and not (place / name).is_file() and is_data(place):
        with suppress(DataError):
            file = pretrained(place).path / name
            if file.is_file():
                return file
    if not place.exists():
        raise DataError(f"{place}: no such run or file. Remedy: check the path.")
    if not place.is_dir():
        return place
    file = place / name
    if not file.is_file():
        raise DataError(f"{place} holds no {name}. Remedy: kgtool evaluate {place} --split {split}")
    return file


def compared_names(places: Sequence[Path]) -> list[str]:
    """The name of each folder or file, or the whole place where two share one.

    Raises:
        DataError: for fewer than two places, or one that comes twice.
    """
    if len(places) < 2:
        raise DataError("one run alone cannot be compared. Remedy: name two or more.")
    for place in places:
        if places.count(place) > 1:
            raise DataError(f"{place} is named twice. Remedy: name each run once.")
    names = [place.name if place.is_dir() else place.stem for place in places]
    return names if len(set(names)) == len(names) else [str(place) for place in places]
