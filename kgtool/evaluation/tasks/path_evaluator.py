"""Metrics of path queries by length, separately for held-out and for train answers.

Every target answer is ranked among the entities that are not answers in the whole graph, with
realistic ties. The metrics are averaged over the answers of a query, then over queries, as in Ren
et al. 2020 (query2box): a query with a thousand answers has the weight of one with two.

mean_quantile   the share of negatives ranked below an answer (Guu et al. 2015, 5.1); the negatives
                have the answer's type: they are tails of the path's last relation
typed_hits@10   share of ranks of at most 10 among those negatives: Hits@10 of Guu et al.
mrr, hits@k     among all entities

If all tails of the last relation are answers, there are no negatives of their type. Such queries do
not count in the first two metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import KGDataset
from kgtool.data.statistics import tails_of_relations
from kgtool.evaluation.metrics import Grouping, interval, resampled_sums
from kgtool.evaluation.ranking import Ranks, not_finite
from kgtool.evaluation.tasks.path_composition import ScoresPaths
from kgtool.evaluation.tasks.path_queries import PARTS, PathQueries
from kgtool.ops import Progress

COLUMNS = ("answers", "length", "metric", "value", "low", "high", "queries", "ranked")
HITS = (1, 10)
TYPED_HITS = 10
METRICS = ("mean_quantile", f"typed_hits@{TYPED_HITS}", "mrr", *(f"hits@{k}" for k in HITS))
# Bytes of scores per block: large blocks, so that queries of one entity are answered together.
BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class PathEvaluation:
    """The metrics of path queries.

    Attributes:
        split: the split of the held-out edges.
        queries: the queries.
        ranks: ranks of the target answers, in their order, among all entities.
        typed: ranks of the same answers among entities of their type.
        table: a row per metric, part and length, see `COLUMNS`.
    """

    split: str
    queries: PathQueries = field(repr=False)
    ranks: Ranks = field(repr=False)
    typed: Ranks = field(repr=False)
    table: pd.DataFrame = field(repr=False)

    def value(self, answers: str, length: int | str, metric: str) -> float:
        """A value of the table; `length` is `"all"` for all lengths."""
        t = self.table
        is_it = (t["answers"] == answers) & (t["length"] == str(length)) & (t["metric"] == metric)
        return float(t.loc[is_it, "value"].iloc[0])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: part → length → metric with its counts, and the counts of the draws.

        A part without queries is left out.
        """
        metrics: dict[str, dict[str, dict[str, Any]]] = {}
        for answers, length, metric, *row in self.table.itertuples(index=False):
            cells = metrics.setdefault(answers, {}).setdefault(length, {})
            cells[metric] = dict(zip(COLUMNS[3:], row, strict=True))
        drawn = [asdict(one) for one in self.queries.drawn]
        return {"split": self.split, **metrics, "drawn": drawn}


def evaluate_path_queries(
    model: ScoresPaths, dataset: KGDataset, split: str, queries: PathQueries, progress: bool = False
) -> PathEvaluation:
    """Rank the target answers of path queries.

    Args:
        model: scores path queries.
        dataset: the data; it gives the types of entities.
        split: the split of the held-out edges.
        queries: from `sample_path_queries`.
        progress: show a progress bar.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
        ValueError: if there are no queries.
    """
    if not len(queries):
        raise ValueError("there are no path queries")
    ranks, typed = _rank(model, dataset, split, queries, progress)
    return PathEvaluation(split, queries, ranks, typed, _table(queries, ranks, typed))


@torch.no_grad()
def _rank(
    model: ScoresPaths, dataset: KGDataset, split: str, queries: PathQueries, progress: bool
) -> tuple[Ranks, Ranks]:
    n = dataset.num_entities
    ends = tails_of_relations(dataset.filter_triples(split), dataset)
    starts, of_type = ends.offsets.tolist(), ends.column.numpy()
    last = queries.path.gather(1, queries.length.unsqueeze(1) - 1).squeeze(1).tolist()
    offsets, answer = queries.offsets.tolist(), queries.answer.numpy()
    target = queries.target.numpy()
    among_all, typed = [], []
    block = max(1, BLOCK_BYTES // (4 * n))
    with Progress(len(queries), "paths", "query", shown=progress) as bar:
        for part in torch.arange(len(queries)).split(block):
            path, length = queries.path[part], queries.length[part]
            scores = model.score_paths(queries.head[part], path, length)
            _refuse(scores, queries, part, n)
            for i, row in zip(part.tolist(), scores.numpy(), strict=True):
                own = slice(offsets[i], offsets[i + 1])
                true, mine = answer[own], row[answer[own][target[own]]]
                negative = np.ones(n, dtype=bool)
                negative[true] = False
                alike = of_type[starts[last[i]] : starts[last[i] + 1]]
                among_all.append(_compare(mine, row[negative]))
                typed.append(_compare(mine, row[alike[negative[alike]]]))
            bar.update(len(part))
    return _joined(among_all), _joined(typed)


def _refuse(scores: Tensor, queries: PathQueries, part: Tensor, num_entities: int) -> None:
    if scores.shape != (len(part), num_entities):
        raise ValueError(f"score_paths gave {tuple(scores.shape)} for {len(part)} × {num_entities}")
    wrong = ~scores.isfinite().all(1)
    if bool(wrong.any()):
        i = int(part[wrong][0])
        path = "/".join(map(str, queries.path[i, : queries.length[i]].tolist()))
        raise not_finite(f"the path query (head {int(queries.head[i])}, relations {path}, ?)")


def _compare(answers: NDArray[Any], negatives: NDArray[Any]) -> NDArray[np.int64]:
    """`(3, a)`: for each answer, the number of better, equal and all negatives, from scores."""
    negatives = np.sort(negatives)
    low = np.searchsorted(negatives, answers)
    high = np.searchsorted(negatives, answers, side="right")
    return np.stack([len(negatives) - high, high - low, np.full_like(low, len(negatives))])


def _joined(parts: Sequence[NDArray[np.int64]]) -> Ranks:
    better, equal, negatives = torch.from_numpy(np.concatenate(parts, axis=1))
    return Ranks(better, equal, negatives + 1)


def _table(queries: PathQueries, ranks: Ranks, typed: Ranks) -> pd.DataFrame:
    query = torch.repeat_interleave(queries.offsets.diff())[queries.target]  # of each target
    answers = torch.bincount(query, minlength=len(queries))
    means = torch.zeros(len(queries), len(METRICS) + 2, dtype=torch.double)
    means.index_add_(0, query, _addends(ranks, typed)).div_(answers.unsqueeze(1))
    lengths, place = torch.unique(queries.length, return_inverse=True)
    part = (~queries.held_out).long()  # the index in `PARTS`
    names = tuple((p, str(k)) for p in PARTS for k in lengths.tolist())
    groups = [(p, "all") for p in PARTS]
    groupings = [
        Grouping(tuple(map("/".join, names)), part * len(lengths) + place),
        Grouping(PARTS, part),
    ]
    drawn = resampled_sums(means, torch.arange(len(queries)), groupings)
    tables = []
    for group, grouping, resampled in zip((names, groups), groupings, drawn, strict=True):
        sums = means.new_zeros(len(group), means.shape[1]).index_add_(0, grouping.of, means)
        ranked = torch.zeros(len(group)).long().index_add_(0, grouping.of, answers)
        low, high = interval(_metrics(resampled.transpose(1, 2)).transpose(1, 2))
        columns = {
            "value": _metrics(sums),  # (groups, metrics)
            "low": low,
            "high": high,
            "queries": sums[:, _COUNT].round().long(),
            "ranked": ranked.unsqueeze(1).expand(-1, len(METRICS)),
        }
        index = pd.MultiIndex.from_tuples(
            [(*name, metric) for name in group for metric in METRICS], names=COLUMNS[:3]
        )
        flat = {name: column.flatten().numpy() for name, column in columns.items()}
        tables.append(pd.DataFrame(flat, index).reset_index())
    table = pd.concat(tables, ignore_index=True)
    return table[table["queries"] > 0].reset_index(drop=True)


# The column of the count that divides each metric: queries with negatives of the answer's type, or
# all queries.
_COUNT = [-2, -2, *[-1] * (1 + len(HITS))]


def _addends(ranks: Ranks, typed: Ranks) -> Tensor:
    """The summands of each answer: a column per metric, then the two counts."""
    rank, among = ranks.realistic, typed.realistic
    negatives = (typed.candidates - 1).double()
    some = (negatives > 0).double()
    below = 1 - (among - 1) / negatives.clamp(min=1)
    hits = [(rank <= k).double() for k in HITS]
    columns = [some * below, some * (among <= TYPED_HITS), 1 / rank, *hits, some, rank / rank]
    return torch.stack(columns, dim=1)


def _metrics(sums: Tensor) -> Tensor:
    """`(..., metrics)` from sums of rows; NaN without queries."""
    return sums[..., : len(METRICS)] / sums[..., _COUNT]
