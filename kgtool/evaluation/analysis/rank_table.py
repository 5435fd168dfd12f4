"""Ranks as a table, one row a query, so that anybody can count again.

head, relation, tail          labels of the triple
side                          which of them was asked for: head or tail
rank                          filtered, realistic: the mean of the next two
optimistic, pessimistic       filtered, before and behind the candidates level with the answer
candidates                    entities ranked, the answer included
raw, raw_optimistic, raw_pessimistic, raw_candidates    the same, unfiltered
score                         the answer's
relation, category, degree, … what the breakdown groups queries by

Of another tool's table, head, relation, tail, side and rank are enough; every column that is none
of these is taken for groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.errors import DataError
from kgtool.evaluation.analysis.breakdown import (
    CATEGORIES,
    ENTITIES,
    RankedQueries,
    degree_names,
    distance_names,
    ranked_queries,
)
from kgtool.evaluation.evaluator import Evaluation
from kgtool.evaluation.metrics import Grouping
from kgtool.storage.tables import load_table

TRIPLE = ("head", "relation", "tail")
FILTERED = {"realistic": "rank", "optimistic": "optimistic", "pessimistic": "pessimistic"}
RAW = {"realistic": "raw", "optimistic": "raw_optimistic", "pessimistic": "raw_pessimistic"}
OTHERS = ("side", "candidates", "raw_candidates", "score")
KNOWN = {*TRIPLE, *FILTERED.values(), *RAW.values(), *OTHERS}
# The order in which groups are shown; those of other columns are sorted.
ORDER = {
    "category": CATEGORIES,
    "degree": degree_names(),
    "distance": distance_names(),
    "entities": ENTITIES,
}


def ranks_frame(
    found: Evaluation, groups: Mapping[str, Grouping], vocabulary: Vocabulary
) -> pd.DataFrame:
    """The table of an evaluation."""
    queries = ranked_queries(found)
    triples = found.queries[: len(found.queries) // 2].repeat(2, 1)
    labels = (vocabulary.entities, vocabulary.relations, vocabulary.entities)
    columns: dict[str, object] = {
        name: _named(names, ids)
        for name, names, ids in zip(TRIPLE, labels, triples.unbind(1), strict=True)
    }
    columns["side"] = _named(("tail", "head"), queries.head_side.long())
    for names, ranks, candidates in (
        (FILTERED, queries.ranks, ("candidates", queries.candidates)),
        (RAW, queries.raw, ("raw_candidates", queries.raw_candidates)),
    ):
        for policy, column in names.items():
            ranked = ranks[policy]
            columns[column] = (ranked if policy == "realistic" else ranked.long()).numpy()
        columns[candidates[0]] = candidates[1].numpy()
    columns["score"] = found.ranking.score.numpy()
    columns |= {
        by: _named(grouping.names, grouping.of)
        for by, grouping in groups.items()
        if by != "relation"
    }
    return pd.DataFrame(columns)


def _named(names: tuple[str, ...], ids: Tensor) -> np.ndarray:
    return np.array(names, dtype=object)[ids.numpy()]


def read_ranks(path: str | Path) -> tuple[RankedQueries, dict[str, Grouping]]:
    """Ranks and groups of a table, ours or another tool's.

    Raises:
        DataError: when a column is missing or a cell does not fit, naming file, line and remedy.
    """
    return _read(path)[:2]


def read_matched(paths: Sequence[str | Path]) -> tuple[list[RankedQueries], dict[str, Grouping]]:
    """Ranks that several files hold of the same queries, in the order of the first file's.

    A column of groups is taken from the first file that has it.

    Raises:
        DataError: when a file holds no ranks, holds a query twice, holds other queries than the
            first, or ranks one among another number of candidates: by another protocol.
    """
    read = [_read(path) for path in paths]
    for path, (_, _, keys) in zip(paths, read, strict=True):
        again = keys.duplicated()
        if again.any():
            raise DataError(f"{_asked(path, keys, again)} a second time. Remedy: one row a query.")
    (first, groupings, keys), *others = read
    matched = [first]
    for path, (queries, groups, own_keys) in zip(paths[1:], others, strict=True):
        order = own_keys.get_indexer(keys)
        for one, of_one, other, lacking in (
            (paths[0], keys, path, order < 0),
            (path, own_keys, paths[0], keys.get_indexer(own_keys) < 0),
        ):
            if lacking.any():
                raise DataError(
                    f"{_asked(one, of_one, lacking)}, which {other} lacks. Remedy: compare ranks "
                    "of the same queries: one data set, one split."
                )
        rows = torch.from_numpy(order)
        here, there = queries.candidates[rows], first.candidates
        differ = ((here - there).nan_to_num() != 0).numpy()  # NaN where a file does not tell
        if differ.any():
            row = int(differ.argmax())
            raise DataError(
                f"{_asked(path, own_keys, np.arange(len(keys)) == order[row])} ranked among "
                f"{here[row]:.0f} candidates, in {paths[0]} among {there[row]:.0f}: other "
                "protocols cannot be compared. Remedy: rank both with the same data, filter and "
                "candidates."
            )
        ranks, raw = (
            {policy: rank[rows] for policy, rank in part.items()}
            for part in (queries.ranks, queries.raw)
        )
        raw_candidates = queries.raw_candidates[rows]
        matched.append(
            RankedQueries(first.triple, first.head_side, ranks, raw, here, raw_candidates)
        )
        for name, grouping in groups.items():
            groupings.setdefault(name, Grouping(grouping.names, grouping.of[rows]))
    return matched, groupings


def _asked(path: str | Path, keys: pd.MultiIndex, wanted: np.ndarray) -> str:
    """Names the first query where `wanted` holds, by its file and line."""
    row = int(wanted.argmax())
    head, relation, tail, side = keys[row]
    return f"{path}, line {row + 2}: the {side} of ({head}, {relation}, {tail})"


def _read(path: str | Path) -> tuple[RankedQueries, dict[str, Grouping], pd.MultiIndex]:
    """Ranks, groups, and the key of each query: head, relation, tail, side."""
    frame = load_table(path)
    needed = [*TRIPLE, "side", "rank"]
    if any(column in frame for column in RAW.values()):
        needed.append(RAW["realistic"])
    missing = [name for name in needed if name not in frame]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}. Remedy: name the columns in the first row: "
            "head, relation, tail, side and rank at least, and raw beside other raw ranks."
        )
    if frame.empty:
        raise DataError(f"{path}: no ranks. Remedy: a row a query below the header.")
    for column in TRIPLE:
        _refuse(path, frame[column].isna().to_numpy(), frame[column], f"is no {column}", "a label")
    by = ["relation", *(name for name in frame if name not in KNOWN)]
    try:
        groups = {name: _grouping(frame[name], ORDER.get(name, ())) for name in by}
        keys = frame[[*TRIPLE, "side"]].astype(str)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a label is no text ({error}). Remedy: UTF-8.") from error
    side = keys["side"].to_numpy()
    _refuse(path, ~np.isin(side, ("head", "tail")), frame["side"], "is no side", "head or tail")
    candidates = _numbers(path, frame, "candidates", 1)
    ranks = {
        policy: _numbers(path, frame, column, 1)
        for policy, column in FILTERED.items()
        if column in frame
    }
    for policy, rank in ranks.items():
        column = FILTERED[policy]
        _refuse(
            path, (rank > candidates).numpy(), frame[column],
            f"is a {column} beyond its candidates", "count the answer among the candidates",
        )  # fmt: skip
    raw = {
        policy: _numbers(path, frame, column, 1)
        for policy, column in RAW.items()
        if column in frame
    }
    triple = torch.from_numpy(frame.groupby([*TRIPLE], sort=False).ngroup().to_numpy(copy=True))
    queries = RankedQueries(
        triple, torch.from_numpy(side == "head"), ranks, raw, candidates,
        _numbers(path, frame, "raw_candidates", 1),
    )  # fmt: skip
    return queries, groups, pd.MultiIndex.from_frame(keys)


def _numbers(path: str | Path, frame: pd.DataFrame, column: str, least: float) -> Tensor:
    """`(q,)` float64; NaN where there is no such column."""
    if column not in frame:
        return torch.full((len(frame),), torch.nan, dtype=torch.double)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, copy=True)
    fits = np.isfinite(values) & (values >= least)
    _refuse(path, ~fits, frame[column], f"is no {column}", f"a number of {least:g} or more")
    return torch.from_numpy(values)


def _refuse(path: str | Path, wrong: np.ndarray, cells: pd.Series, what: str, want: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{path}, line {row + 2}: {cells.iloc[row]!r} {what}. Remedy: {want}.")


def _grouping(labels: pd.Series, order: tuple[str, ...]) -> Grouping:
    """The groups of labels as text; those that are missing are a group of that name."""
    text = labels.astype(str).fillna("missing")
    used = set(text.unique())
    names = tuple(order) if used <= set(order) else tuple(sorted(used))
    of = pd.Categorical(text, categories=names).codes
    return Grouping(names, torch.from_numpy(of.astype(np.int64)))
