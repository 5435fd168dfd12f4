"""Breakdown: metrics by groups of queries, in one tidy table.

A row is one metric of one group, side and tie policy:

by          the grouping: all, relation, category, degree, distance, entities, half_links, reach
group       the group's name
side        both, head, tail
filter      filtered; for `all` also raw
ties        realistic, optimistic, pessimistic
metric      mrr, mr, gmr, amr, amri, hits@k
value       its value
low, high   the ends of its 95 % bootstrap interval over triples; for realistic ties only
queries     number of queries of the group on that side
note        where the model cannot reach the answers of the group, its layers; else empty
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.answer_index import answers_at_heads
from kgtool.data.dataset import KGDataset, invert
from kgtool.evaluation.evaluator import SIDES, Evaluation
from kgtool.evaluation.metrics import (
    HITS,
    POLICIES,
    Grouping,
    addends,
    interval,
    metrics_from,
    resampled_sums,
)
from kgtool.ops import distance

COLUMNS = (
    "by", "group", "side", "filter", "ties", "metric", "value", "low", "high", "queries", "note",
)  # fmt: skip
# From this mean number on, a relation has "many" heads per tail or tails per head (Bordes et al.
# 2013).
MANY = 1.5
CATEGORIES = ("1-1", "1-N", "N-1", "N-N", "unseen")
DEGREES = (0, 1, 3, 10, 30, 100, 300, 1000)  # the upper end of each bucket except the last
DISTANCES = 5  # the greatest distance with its own group
ENTITIES = ("seen", "answer unseen", "question unseen", "both unseen")
HALF_LINKS = ("both", "answer only", "question only", "neither")
REACHED = "reached"  # the group of `reach` whose answers the model reaches


@dataclass(frozen=True, eq=False)
class RankedQueries:
    """Ranks of queries, from this tool or another.

    Attributes:
        triple: `(q,)` int64, the triple of each query; the bootstrap draws its queries together.
        head_side: `(q,)` bool, whether the query asks for the head.
        ranks: tie policy → `(q,)` float64, filtered.
        raw: tie policy → `(q,)` float64; empty if unknown.
        candidates, raw_candidates: `(q,)`, number of entities ranked; NaN if unknown.
    """

    triple: Tensor
    head_side: Tensor
    ranks: Mapping[str, Tensor]
    raw: Mapping[str, Tensor]
    candidates: Tensor
    raw_candidates: Tensor


def ranked_queries(evaluation: Evaluation) -> RankedQueries:
    """The queries of an evaluation."""
    n = len(evaluation.queries) // 2
    filtered, raw = evaluation.ranking.filtered, evaluation.ranking.raw
    return RankedQueries(
        triple=torch.arange(n).repeat(2),
        head_side=torch.arange(2 * n) >= n,
        ranks={policy: getattr(filtered, policy) for policy in POLICIES},
        raw={policy: getattr(raw, policy) for policy in POLICIES},
        candidates=filtered.candidates,
        raw_candidates=raw.candidates,
    )


def groupings(
    dataset: KGDataset, queries: Tensor, layers: int | None = None
) -> dict[str, Grouping]:
    """Groupings of queries by properties of the train triples.

    - `relation`: its label.
    - `category`: 1-1, 1-N, N-1 or N-N; N means at least 1.5 heads per tail, or tails per head, in
      train.
    - `degree`: number of train triples of the answer.
    - `distance`: shortest distance between head and tail in the undirected train graph; 1 for a
      train triple itself.
    - `entities`: whether the query's entity and the answer occur in train.
    - `half_links`: which of the answer and the query's entity have an edge of the query's relation
      in train (Gregucci et al. 2026, arXiv:2606.18001). For `(h, r, ?)` with the answer `t`, the
      answer has one if train has some `(x, r, t)`, and the query's entity if train has some
      `(h, r, y)`. Both have one for a train triple itself.
    - `reach`, given layers: whether the distance is at most the number of layers. A model that
      scores by paths alone gives all entities beyond the same score.

    Args:
        dataset: the data; only train is used.
        queries: `(q, 3)` int64 `(h, r, t)`, head queries as the inverses of their triples.
        layers: the layers of a model that scores by paths alone; None for other models.
    """
    head, relation, tail = queries.unbind(1)
    relation = relation % dataset.num_relations
    degree = torch.bincount(dataset.train[:, [0, 2]].flatten(), minlength=dataset.num_entities)
    of_answer = degree[tail]
    steps = _distances(dataset, queries)
    far, none = DISTANCES + 1, DISTANCES + 2
    found = {
        "relation": Grouping(dataset.vocabulary.relations, relation),
        "category": Grouping(CATEGORIES, categories(dataset)[relation]),
        "degree": Grouping(degree_names(), torch.bucketize(of_answer, torch.tensor(DEGREES))),
        "distance": Grouping(distance_names(), torch.where(steps < 0, none, steps.clamp(max=far))),
        "entities": Grouping(ENTITIES, (of_answer == 0).long() + 2 * (degree[head] == 0).long()),
        "half_links": Grouping(HALF_LINKS, _half_links(dataset, queries)),
    }
    if layers is not None:
        names = (REACHED, f"cannot be reached by {layers} layer{'s' * (layers > 1)}")
        found["reach"] = Grouping(names, ((steps < 0) | (steps > layers)).long())
    return found


def categories(dataset: KGDataset) -> Tensor:
    """`(num_relations,)` int64: the index in `CATEGORIES` of each relation, counted on train."""
    head, relation, tail = dataset.train.unbind(1)
    n = dataset.num_entities
    heads, tails, triples = (
        torch.bincount(relations, minlength=dataset.num_relations)
        for relations in (
            torch.unique(relation * n + head) // n,
            torch.unique(relation * n + tail) // n,
            relation,
        )
    )
    many_tails, many_heads = triples >= MANY * heads, triples >= MANY * tails
    category = many_tails.long() + 2 * many_heads.long()
    return torch.where(triples == 0, CATEGORIES.index("unseen"), category)


def degree_names() -> tuple[str, ...]:
    """The groups of `degree`: 0, 1, 2-3, 4-10, …"""
    first = [0, *(last + 1 for last in DEGREES[:-1])]
    spans = zip(first, DEGREES, strict=True)
    return (*(f"{a}" if a == b else f"{a}-{b}" for a, b in spans), f"more than {DEGREES[-1]}")


def distance_names() -> tuple[str, ...]:
    """The groups of `distance`: 0, 1, …; "none" without a path."""
    return (*map(str, range(DISTANCES + 1)), f"more than {DISTANCES}", "none")


def _half_links(dataset: KGDataset, queries: Tensor) -> Tensor:
    """`(q,)` int64: the index in `HALF_LINKS` of each query."""
    # An entity is the tail of an edge of r where it is the head of one of the inverse of r.
    inverses = invert(queries, dataset.num_relations)
    edges = answers_at_heads(torch.cat([queries, inverses]), dataset.train, dataset.num_relations)
    at_question, at_answer = (edges.rows(half[:, :2]) >= 0 for half in (queries, inverses))
    return 2 * (~at_answer).long() + (~at_question).long()


def _distances(dataset: KGDataset, queries: Tensor) -> Tensor:
    """`(q,)` int64: the distance between head and tail in train; below 0 without a path."""
    # The graph is undirected: a triple and its inverse have the same distance.
    n = dataset.num_entities
    low, high = queries[:, [0, 2]].sort(dim=1)[0].unbind(1)
    pair, row = torch.unique(low * n + high, return_inverse=True)
    pairs = torch.stack([pair // n, pair % n], dim=1)
    return distance(dataset.train[:, [0, 2]], pairs, n)[row]


def breakdown(
    queries: RankedQueries, groups: Mapping[str, Grouping], hits: Sequence[int] = HITS
) -> pd.DataFrame:
    """The tidy table: all queries first, then the non-empty groups of each grouping, in order.

    Args:
        queries: queries with their ranks.
        groups: name → grouping of the same queries.
        hits: the k of Hits@k.
    """
    everything = Grouping(("all",), torch.zeros_like(queries.triple))
    filtered = _tables(
        queries,
        "filtered",
        queries.ranks,
        queries.candidates,
        groups={"all": everything, **groups},
        hits=hits,
    )
    raw = _tables(
        queries, "raw", queries.raw, queries.raw_candidates, groups={"all": everything}, hits=hits
    )
    first = len(queries.ranks)  # tables of all queries
    return pd.concat([*filtered[:first], *raw, *filtered[first:]], ignore_index=True)


def _tables(
    queries: RankedQueries,
    filter_: str,
    ranks: Mapping[str, Tensor],
    candidates: Tensor,
    *,
    groups: Mapping[str, Grouping],
    hits: Sequence[int],
) -> list[pd.DataFrame]:
    """A table for each grouping."""
    if not ranks:
        return []
    used = {by: in_use(grouping) for by, grouping in groups.items()}
    reach = groups.get("reach")
    notes = {} if reach is None else {by: _notes(by, groups[by], reach) for by in groups}
    rows = {
        policy: by_side(addends(rank, candidates, hits), queries.head_side)
        for policy, rank in ranks.items()
    }
    # For one tie policy only: its intervals show the uncertainty well enough.
    drawn = resampled_sums(rows[POLICIES[0]], queries.triple, [*used.values()])
    tables = []
    for (by, grouping), resampled in zip(used.items(), drawn, strict=True):
        values = metrics_from(
            sum_sides(resampled.transpose(1, 2)), hits
        )  # (groups, sides, resamples)
        ends = {metric: interval(value) for metric, value in values.items()}
        for policy, row in rows.items():
            sums = torch.zeros(len(grouping.names), row.shape[1], dtype=row.dtype)
            sums = sum_sides(sums.index_add_(0, grouping.of, row))
            value = metrics_from(sums, hits)
            columns = {
                "value": torch.stack([*value.values()], dim=-1),  # (groups, sides, metrics)
                "low": torch.stack([ends[metric][0] for metric in value], dim=-1),
                "high": torch.stack([ends[metric][1] for metric in value], dim=-1),
                "queries": sums[..., :1].expand(-1, -1, len(value)).long(),
            }
            if policy != POLICIES[0]:
                columns["low"] = columns["high"] = torch.full_like(columns["low"], torch.nan)
            index = pd.MultiIndex.from_product(
                [[by], grouping.names, SIDES, [filter_], [policy], [*value]], names=COLUMNS[:6]
            )
            flat = {name: column.flatten().numpy() for name, column in columns.items()}
            table = pd.DataFrame(flat, index)
            note = notes.get(by, {})
            table["note"] = [note.get(name, "") for name in table.index.get_level_values("group")]
            tables.append(table[table["queries"] > 0].reset_index())
    return tables


def _notes(by: str, grouping: Grouping, reach: Grouping) -> dict[str, str]:
    """The groups with answers that the model cannot reach → what to say of them."""
    beyond = torch.tensor([name != REACHED for name in reach.names])[reach.of]
    reason = next((name for name in reach.names if name != REACHED), "")
    size, lost = (
        torch.bincount(grouping.of[rows], minlength=len(grouping.names)).tolist()
        for rows in (slice(None), beyond)
    )
    notes = {}
    for name, queries, count in zip(grouping.names, size, lost, strict=True):
        if count and count == queries:
            notes[name] = reason
        elif count and by in ("all", "distance"):
            notes[name] = f"{count:,} of {queries:,} answers {reason}"
    return notes


def in_use(grouping: Grouping) -> Grouping:
    """The grouping without its empty groups."""
    names, group = torch.unique(grouping.of, return_inverse=True)
    return Grouping(tuple(grouping.names[i] for i in names.tolist()), group)


def by_side(rows: Tensor, head_side: Tensor) -> Tensor:
    """`(q, 2 · width)`: rows `(q, width)` in the first half for tail, in the second for head."""
    on_head = head_side.to(rows.dtype).unsqueeze(1)
    return torch.cat([rows * (1 - on_head), rows * on_head], dim=1)


def sum_sides(sums: Tensor) -> Tensor:
    """`(groups, sides, ..., width)` sums of sides in the order of `SIDES`.

    Args:
        sums: `(groups, ..., 2 · width)`, of tail queries, then of head queries.
    """
    tail, head = sums.chunk(2, dim=-1)
    return torch.stack([tail + head, head, tail], dim=1)
