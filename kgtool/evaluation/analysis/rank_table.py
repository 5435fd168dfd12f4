"""Ranks as a table with one row per query; all metrics can be recomputed from it.

head, relation, tail          labels of the triple
side                          the side that the query asks for: head or tail
rank                          filtered, realistic: the mean of the next two
optimistic, pessimistic       filtered, before and after the candidates tied with the answer
candidates                    number of entities ranked, including the answer
raw, raw_optimistic, raw_pessimistic, raw_candidates    the same, unfiltered
score                         score of the answer
relation, category, degree, … groups of the breakdown

A table of another tool needs only head, relation, tail, side and rank. Every further column is read
as a grouping.
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
    HALF_LINKS,
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
FURTHER = ("side", "candidates", "raw_candidates", "score")
KNOWN = {*TRIPLE, *FILTERED.values(), *RAW.values(), *FURTHER}
# The display order of groups; the groups of other columns are sorted.
ORDER = {
    "category": CATEGORIES,
    "degree": degree_names(),
    "distance": distance_names(),
    "entities": ENTITIES,
    "half_links": HALF_LINKS,
}


def ranks_frame(
    evaluation: Evaluation, groups: Mapping[str, Grouping], vocabulary: Vocabulary
) -> pd.DataFrame:
    """The table of an evaluation."""
    queries = ranked_queries(evaluation)
    triples = evaluation.queries[: len(evaluation.queries) // 2].repeat(2, 1)
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
    columns["score"] = evaluation.ranking.score.numpy()
    columns |= {
        by: _named(grouping.names, grouping.of)
        for by, grouping in groups.items()
        if by != "relation"
    }
    return pd.DataFrame(columns)


def _named(names: tuple[str, ...], ids: Tensor) -> np.ndarray:
    return np.array(names, dtype=object)[ids.numpy()]


def read_ranks(path: str | Path) -> tuple[RankedQueries, dict[str, Grouping]]:
    """Ranks and groups from a table of this or another tool.

    Raises:
        DataError: for a missing column or an invalid cell, naming file, line and remedy.
    """
    return _read(path)[:2]


def read_matched(paths: Sequence[str | Path]) -> tuple[list[RankedQueries], dict[str, Grouping]]:
    """Ranks of the same queries from several files, in the order of the first file.

    A grouping comes from the first file that has its column.

    Raises:
        DataError: if a file has no ranks, repeats a query, has other queries than the first file,
            or has another number of candidates for a query, which means another protocol.
    """
    read = [_read(path) for path in paths]
    for path, (_, _, keys) in zip(paths, read, strict=True):
        again = keys.duplicated()
        if again.any():
            raise DataError(
                f"{_query(path, keys, again)} occurs twice. Remedy: keep one row per query."
            )
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
                    f"{_query(one, of_one, lacking)} is missing in {other}. Remedy: compare ranks "
                    "of the same queries, from one data set and one split."
                )
        rows = torch.from_numpy(order)
        candidates, expected = queries.candidates[rows], first.candidates
        # NaN if a file does not give the number
        differ = ((candidates - expected).nan_to_num() != 0).numpy()
        if differ.any():
            row = int(differ.argmax())
            raise DataError(
                f"{_query(path, own_keys, np.arange(len(keys)) == order[row])} is ranked among "
                f"{candidates[row]:.0f} candidates, but among {expected[row]:.0f} in {paths[0]}: "
                "ranks of different protocols cannot be compared. Remedy: rank both with the same "
                "data, filter and candidates."
            )
        ranks, raw = (
            {policy: rank[rows] for policy, rank in part.items()}
            for part in (queries.ranks, queries.raw)
        )
        raw_candidates = queries.raw_candidates[rows]
        matched.append(
            RankedQueries(first.triple, first.head_side, ranks, raw, candidates, raw_candidates)
        )
        for name, grouping in groups.items():
            groupings.setdefault(name, Grouping(grouping.names, grouping.of[rows]))
    return matched, groupings


def _query(path: str | Path, keys: pd.MultiIndex, wanted: np.ndarray) -> str:
    """The first query where `wanted` is true, with its file and line."""
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
            "head, relation, tail, side and rank; also raw if the file has other raw ranks."
        )
    if frame.empty:
        raise DataError(f"{path}: no ranks. Remedy: write one row per query below the header.")
    for column in TRIPLE:
        missing_label = frame[column].isna().to_numpy()
        _refuse(path, missing_label, frame[column], f"is not a {column}", "give a label")
    by = ["relation", *(name for name in frame if name not in KNOWN)]
    try:
        groups = {name: _grouping(frame[name], ORDER.get(name, ())) for name in by}
        keys = frame[[*TRIPLE, "side"]].astype(str)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: a label is not text ({error}). Remedy: write labels in UTF-8."
        ) from error
    side = keys["side"].to_numpy()
    wrong_side = ~np.isin(side, ("head", "tail"))
    _refuse(path, wrong_side, frame["side"], "is not a side", "give head or tail")
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
            f"is a {column} above the number of candidates", "count the answer as a candidate",
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
    """`(q,)` float64; NaN for a missing column."""
    if column not in frame:
        return torch.full((len(frame),), torch.nan, dtype=torch.double)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, copy=True)
    fits = np.isfinite(values) & (values >= least)
    remedy = f"give a number of at least {least:g}"
    _refuse(path, ~fits, frame[column], f"is not a valid {column}", remedy)
    return torch.from_numpy(values)


def _refuse(
    path: str | Path, wrong: np.ndarray, cells: pd.Series, problem: str, remedy: str
) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{path}, line {row + 2}: {cells.iloc[row]!r} {problem}. Remedy: {remedy}.")


def _grouping(labels: pd.Series, order: tuple[str, ...]) -> Grouping:
    """The grouping by label; missing labels form the group "missing"."""
    text = labels.astype(str).fillna("missing")
    used = set(text.unique())
    names = tuple(order) if used <= set(order) else tuple(sorted(used))
    of = pd.Categorical(text, categories=names).codes
    return Grouping(names, torch.from_numpy(of.astype(np.int64)))
