"""Link prediction metrics: filtered and raw, by side, under every tie policy.

Head and tail queries are pooled: `"both"` is over the 2n ranks, not the mean of two means. Entities
that are unseen in train are ranked like all others; the metrics without them are given as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kgtool.data.answer_index import answers_at_heads
from kgtool.data.dataset import KGDataset, check_not_empty, with_inverses
from kgtool.display import frame_of, html
from kgtool.evaluation.metrics import (
    HITS,
    NEGATIVES,
    Metrics,
    in_short,
    metrics_of,
    sampled_metrics_of,
)
from kgtool.evaluation.ranking import Candidates, Ranking, Ranks, rank_tails
from kgtool.models.scorers import ScoresTails
from kgtool.ops import standard_state

if TYPE_CHECKING:
    from kgtool.display import DataFrame

SIDES = ("both", "head", "tail")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The metrics of one split.

    Attributes:
        split: the name of the split.
        filtered, raw: side → policy → metric.
        seen: filtered, over the triples whose entities and relation all occur in train; empty
            without such triples.
        sampled: filtered, both sides, among `NEGATIVES` random candidates; see
            `sampled_metrics_of`. Empty unless all entities are ranked.
        counts: `triples`, `queries` (two per triple), `entities` (candidates), `unseen_entities`
            and `unseen_relations` (of the split, missing in train), `unseen_triples` (with any of
            them).
        hits: the k of Hits@k.
        queries: `(2n, 3)` int64, the split's triples, then their inverses.
        ranking: the ranks of their tails.
        candidates: the candidate set, such as `sampled-500`, or `all` entities.
        weighted: side → policy → metric, filtered, with each query counted by the weight of its
            triple; empty for a split without weights. Ranks are the same.
    """

    split: str
    filtered: dict[str, dict[str, Metrics]]
    raw: dict[str, dict[str, Metrics]]
    seen: dict[str, dict[str, Metrics]]
    sampled: Metrics
    counts: dict[str, int]
    hits: tuple[int, ...]
    queries: Tensor = field(compare=False, repr=False)
    ranking: Ranking = field(compare=False, repr=False)
    candidates: str = "all"
    weighted: dict[str, dict[str, Metrics]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Evaluation({self.split!r}, {self.candidates}: {in_short(self._main)})"

    def _repr_html_(self) -> str:
        return html(f"Link prediction on {self.split}", self.to_frame())

    @property
    def _main(self) -> Metrics:
        return self.filtered["both"]["realistic"]

    def to_frame(self) -> DataFrame:
        """The metrics: a row per side and tie policy, filtered, then a row of raw ranks.

        With weights, the last row has the weighted metrics of both sides.
        """
        rows = [(side, policy, m) for side in SIDES for policy, m in self.filtered[side].items()]
        rows.append(("both, raw", "realistic", self.raw["both"]["realistic"]))
        if self.weighted:
            rows.append(("both, weighted", "realistic", self.weighted["both"]["realistic"]))
        labels = {"side": [side for side, _, _ in rows], "ties": [ties for _, ties, _ in rows]}
        values = {name: [m[name] for _, _, m in rows] for name in self._main}
        return frame_of({**labels, **values})

    @property
    def mrr(self) -> float:
        """The filtered, realistic MRR over both sides: the number that papers report."""
        return self.filtered["both"]["realistic"]["mrr"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: filtered metrics at the top level, as in `["both"]["realistic"]["mrr"]`."""
        return {
            "split": self.split,
            "candidates": self.candidates,
            **self.filtered,
            "raw": self.raw,
            "seen": self.seen,
            "sampled": {"negatives": NEGATIVES, **self.sampled} if self.sampled else {},
            **({"weighted": self.weighted} if self.weighted else {}),
            "counts": self.counts,
        }


@standard_state()
def evaluate_model(
    model: ScoresTails,
    dataset: KGDataset,
    split: str = "test",
    *,
    chunk_size: int | None = None,
    progress: bool = False,
    hits: Sequence[int] = HITS,
    candidates: Candidates | None = None,
) -> Evaluation:
    """Rank the head and the tail of every triple of a split among the candidates.

    For the split train or valid the filter has train and valid, so that model selection uses
    nothing of test. For test it has all three splits.

    Args:
        model: any object with `score_t`; a head query is `(t, r + num_relations)`.
        dataset: the triples.
        split: `"train"`, `"valid"` or `"test"`.
        chunk_size: answers ranked at a time; the default fits the cache.
        progress: show a progress bar.
        hits: the k of Hits@k.
        candidates: the candidate set; None for all entities.

    Raises:
        ScoreError: if a score is NaN or infinite.
        ConfigError: for an unknown split; it gives the nearest one.
        DataError: for an empty split.
    """
    triples, num_relations = dataset.split(split), dataset.num_relations
    check_not_empty(dataset, [split])
    # Both sides at once: an all-paths model answers all queries of an entity in one pass.
    queries = with_inverses(triples, num_relations)
    known = answers_at_heads(queries, dataset.filter_triples(split), num_relations)
    ranking = rank_tails(
        model, queries, known, dataset.num_entities, chunk_size=chunk_size,
        progress=split if progress else None, candidates=candidates,
    )  # fmt: skip
    return evaluation_of(ranking, queries, dataset, split, hits=hits, candidates=candidates)


def evaluation_of(
    ranking: Ranking,
    queries: Tensor,
    dataset: KGDataset,
    split: str,
    *,
    hits: Sequence[int] = HITS,
    candidates: Candidates | None = None,
) -> Evaluation:
    """The metrics of a ranking of a split's triples and their inverses; see `evaluate_model`."""
    triples, num_relations = dataset.split(split), dataset.num_relations
    seen_entity = torch.zeros(dataset.num_entities, dtype=torch.bool)
    seen_entity[dataset.train[:, [0, 2]].flatten()] = True
    seen_relation = torch.zeros(num_relations, dtype=torch.bool)
    seen_relation[dataset.train[:, 1]] = True
    seen = seen_entity[triples[:, 0]] & seen_entity[triples[:, 2]] & seen_relation[triples[:, 1]]
    both_seen, weight = seen.repeat(2), dataset.weights.get(split)
    return Evaluation(
        split=split,
        filtered=_by_side(ranking.filtered, hits),
        raw=_by_side(ranking.raw, hits),
        seen=_by_side(ranking.filtered[both_seen], hits) if bool(seen.any()) else {},
        sampled={} if candidates else sampled_metrics_of(ranking.filtered, hits=hits),
        counts={
            "triples": len(triples),
            "queries": 2 * len(triples),
            "entities": dataset.num_entities,
            "unseen_entities": int((~seen_entity[triples[:, [0, 2]].unique()]).sum()),
            "unseen_relations": int((~seen_relation[triples[:, 1].unique()]).sum()),
            "unseen_triples": int((~seen).sum()),
        },
        hits=tuple(hits),
        queries=queries,
        ranking=ranking,
        candidates=candidates.name if candidates else "all",
        weighted=_by_side(ranking.filtered, hits, weight) if weight is not None else {},
    )


def _by_side(
    ranks: Ranks, hits: Sequence[int], weight: Tensor | None = None
) -> dict[str, dict[str, Metrics]]:
    """Side → policy → metric; the first half of the ranks is of tails, the second of heads.

    `weight` `(n,)` are the weights of the triples; None for 1.
    """
    n = len(ranks.better) // 2
    return {
        "both": metrics_of(ranks, hits, None if weight is None else weight.repeat(2)),
        "head": metrics_of(ranks[n:], hits, weight),
        "tail": metrics_of(ranks[:n], hits, weight),
    }
