"""Metrics of path queries, by length, for held-out and for train answers apart.

Every asked answer is ranked among the entities that are no answer in the whole graph, with
realistic ties. The ranks of a query's answers count as their mean, and so every query as one, as
Ren et al. 2020 (query2box) do: a query of a thousand answers says no more than one of two.

mean_quantile   the share of negatives ranked below an answer (Guu et al. 2015, 5.1); the negatives
                are of the answer's type: they end an edge of the path's last relation somewhere
typed_hits@10   ranks of at most 10 among those negatives, which is Guu's Hits@10
mrr, hits@k     among all entities

Queries whose relation ends at answers alone have no negatives of their type, and do not count in
the first two.
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
from tqdm.auto import tqdm

from kgtool.data.dataset import KGDataset
from kgtool.data.statistics import tails_of_relations
from kgtool.evaluation.metrics import Grouping, interval, resampled_sums
from kgtool.evaluation.ranking import Ranks, not_finite
from kgtool.evaluation.tasks.path_composition import ScoresPaths
from kgtool.evaluation.tasks.path_queries import PARTS, PathQueries

COLUMNS = ("answers", "length", "metric", "value", "low", "high", "queries", "ranked")
HITS = (1, 10)
TYPED_HITS = 10
METRICS = ("mean_quantile", f"typed_hits@{TYPED_HITS}", "mrr", *(f"hits@{k}" for k in HITS))
# Scores held at a time: many, so that queries which ask for the same entity are answered together.
BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class PathEvaluation:
    """What path queries came to.

    Attributes:
        split: whose edges were held out.
        queries: as asked.
        ranks: of the asked answers, in their order, among all entities.
        typed: of the same among entities of the answer's type.
        table: a row a metric of the answers of one part and length, see `COLUMNS`.
    """

    split: str
    queries: PathQueries
    ranks: Ranks = field(repr=False)
    typed: Ranks = field(repr=False)
    table: pd.DataFrame = field(repr=False)

    def value(self, answers: str, length: int | str, metric: str) -> float:
        """A cell of the table; `length` is `"all"` for all of them."""
        t = self.table
        is_it = (t["answers"] == answers) & (t["length"] == str(length)) & (t["metric"] == metric)
        return float(t.loc[is_it, "value"].iloc[0])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: answers → length → metric, with its counts; and how the queries were drawn.

        Of a part without queries there is nothing.
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
    """Rank the asked answers of path queries.

    Args:
        model: gives the scores.
        dataset: says of which type an entity is.
        split: whose edges the queries hold out.
        queries: of `sample_path_queries`.
        progress: show a progress bar.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
        ValueError: without queries.
    """
    if not len(queries):
        raise ValueError("no path queries to answer")
    ranks, typed = _rank(model, dataset, split, queries, progress)
    return PathEvaluation(split, queries, ranks, typed, _table(queries, ranks, typed))


@torch.no_grad()
def _rank(
    model: ScoresPaths, dataset: KGDataset, split: str, queries: PathQueries, progress: bool
) -> tuple[Ranks, Ranks]:
    n = dataset.num_entities
    ends = tails_of_relations(dataset.known(split), dataset)
    starts, of_type = ends.offsets.tolist(), ends.column.numpy()
    last = queries.path.gather(1, queries.length.unsqueeze(1) - 1).squeeze(1).tolist()
    offsets, answer, asked = queries.offsets.tolist(), queries.answer.numpy(), queries.asked.numpy()
    every, typed = [], []
    block = max(1, BLOCK_BYTES // (4 * n))
    with tqdm(total=len(queries), unit="query", disable=not progress) as bar:
        for part in torch.arange(len(queries)).split(block):
            path, length = queries.path[part], queries.length[part]
            scores = model.score_paths(queries.head[part], path, length)
            _refuse(scores, queries, part, n)
            for i, row in zip(part.tolist(), scores.numpy(), strict=True):
                own = slice(offsets[i], offsets[i + 1])
                true, mine = answer[own], row[answer[own][asked[own]]]
                negative = np.ones(n, dtype=bool)
                negative[true] = False
                alike = of_type[starts[last[i]] : starts[last[i] + 1]]
                every.append(_compare(mine, row[negative]))
                typed.append(_compare(mine, row[alike[negative[alike]]]))
            bar.update(len(part))
    return _joined(every), _joined(typed)


def _refuse(scores: Tensor, queries: PathQueries, part: Tensor, num_entities: int) -> None:
    if scores.shape != (len(part), num_entities):
        raise ValueError(f"score_paths gave {tuple(scores.shape)} for {len(part)} × {num_entities}")
    wrong = ~scores.isfinite().all(1)
    if bool(wrong.any()):
        i = int(part[wrong][0])
        path = "/".join(map(str, queries.path[i, : queries.length[i]].tolist()))
        raise not_finite(f"the path query (head {int(queries.head[i])}, relations {path}, ?)")


def _compare(mine: NDArray[Any], others: NDArray[Any]) -> NDArray[np.int64]:
    """`(3, a)`: others scored above each of `mine`, level with it, and how many there are."""
    others = np.sort(others)
    low, high = np.searchsorted(others, mine), np.searchsorted(others, mine, side="right")
    return np.stack([len(others) - high, high - low, np.full_like(low, len(others))])


def _joined(parts: Sequence[NDArray[np.int64]]) -> Ranks:
    better, equal, others = torch.from_numpy(np.concatenate(parts, axis=1))
    return Ranks(better, equal, others + 1)


def _table(queries: PathQueries, ranks: Ranks, typed: Ranks) -> pd.DataFrame:
    query = torch.repeat_interleave(queries.offsets.diff())[queries.asked]  # of each asked answer
    answers = torch.bincount(query, minlength=len(queries))
    means = torch.zeros(len(queries), len(METRICS) + 2, dtype=torch.double)
    means.index_add_(0, query, _addends(ranks, typed)).div_(answers.unsqueeze(1))
    lengths, place = torch.unique(queries.length, return_inverse=True)
    part = (~queries.held_out).long()  # the place in `PARTS`
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


# Where the count that a metric is divided by stands in a row: of queries with negatives of the
# answer's type, or of all.
_COUNT = [-2, -2, *[-1] * (1 + len(HITS))]


def _addends(ranks: Ranks, typed: Ranks) -> Tensor:
    """What each answer adds to its query's row: a column a metric, then the two counts."""
    rank, among = ranks.realistic, typed.realistic
    negatives = (typed.candidates - 1).double()
    some = (negatives > 0).double()
    below = 1 - (among - 1) / negatives.clamp(min=1)
    hits = [(rank <= k).double() for k in HITS]
    columns = [some * below, some * (among <= TYPED_HITS), 1 / rank, *hits, some, rank / rank]
    return torch.stack(columns, dim=1)


def _metrics(sums: Tensor) -> Tensor:
    """`(..., metrics)` of sums of rows; NaN where no query counts."""
    return sums[..., : len(METRICS)] / sums[..., _COUNT]
