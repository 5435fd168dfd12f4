"""Link prediction metrics: filtered and raw, by side, under every tie policy.

Head and tail queries are pooled: `"both"` is over the 2n ranks, not the mean of two means. Entities
that train never showed are ranked like all others; the numbers without them stand beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kgtool.ranking import Ranks, ScoresTails, rank_tails
from kgtool.triples import AnswerIndex, KGDataset, with_inverses

POLICIES = ("realistic", "optimistic", "pessimistic")
SIDES = ("both", "head", "tail")
HITS = (1, 3, 10)
# Random negatives of the sampled protocol (GraIL, Teru et al. 2020).
NEGATIVES = 50

Metrics = dict[str, float]


def metrics_of(ranks: Ranks) -> dict[str, Metrics]:
    """Tie policy → metric: `mrr`, `mr`, `amr`, `hits@1`, `hits@3`, `hits@10`.

    `amr` is the adjusted mean rank (Berrendorf et al. 2020): the mean rank over the mean rank of
    random scores, `(candidates + 1) / 2`; 1 is chance, 0 is best.

    Raises:
        ValueError: without any rank.
    """
    if not len(ranks.better):
        raise ValueError("no ranks to summarise")
    chance = (ranks.candidates + 1).double().mean() / 2
    table = {}
    for policy in POLICIES:
        rank: Tensor = getattr(ranks, policy)
        table[policy] = {
            "mrr": float((1 / rank).mean()),
            "mr": float(rank.mean()),
            "amr": float(rank.mean() / chance),
            **{f"hits@{k}": float((rank <= k).double().mean()) for k in HITS},
        }
    return table


def sampled_metrics_of(ranks: Ranks, negatives: int = NEGATIVES) -> Metrics:
    """What ranking against a few random negatives would give: the mean over all their draws.

    GraIL (Teru et al. 2020) and its followers rank an answer among 50 entities drawn at random.
    Of `c` other candidates, `b` of them better, `n` drawn without replacement hold `k` better ones
    with the hypergeometric probability `C(b, k) C(c - b, n - k) / C(c, n)`: no draw is needed.
    These numbers are far above those of a full ranking, and not comparable to them.

    Args:
        ranks: of full rankings; ties count as the mean of winning and losing them all.
        negatives: n, or all other candidates where they are fewer.

    Returns:
        `mrr`, `hits@1`, `hits@3`, `hits@10`.
    """
    others = (ranks.candidates - 1).double().unsqueeze(1)
    drawn = others.clamp(max=negatives)
    k = torch.arange(negatives + 1).double()
    chances = []
    for better in (ranks.better, ranks.better + ranks.equal):
        b = better.double().unsqueeze(1)
        log = _log_binomial(b, k) + _log_binomial(others - b, drawn - k)
        chances.append((log - _log_binomial(others, drawn)).exp())
    chance = (chances[0] + chances[1]) / 2  # (n, negatives + 1)
    return {
        "mrr": float((chance / (k + 1)).sum(1).mean()),
        **{f"hits@{h}": float(chance[:, :h].sum(1).mean()) for h in HITS},
    }


def _log_binomial(n: Tensor, k: Tensor) -> Tensor:
    """`log C(n, k)`, minus infinity where `k` is not from 0 to `n`."""
    inside = (k >= 0) & (k <= n)
    k = k.clamp(min=0).minimum(n)
    log = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return torch.where(inside, log, -torch.inf)


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split.

    Attributes:
        split: which one.
        filtered, raw: side → policy → metric.
        seen: filtered, over triples whose entities and relation all occur in train; empty where
            no triple is so.
        sampled: filtered, both sides, among `NEGATIVES` random candidates; see
            `sampled_metrics_of`.
        counts: `triples`, `queries` (two a triple), `entities` (candidates), `unseen_entities` and
            `unseen_relations` (of the split, absent from train), `unseen_triples` (with any).
    """

    split: str
    filtered: dict[str, dict[str, Metrics]]
    raw: dict[str, dict[str, Metrics]]
    seen: dict[str, dict[str, Metrics]]
    sampled: Metrics
    counts: dict[str, int]

    @property
    def mrr(self) -> float:
        """Filtered, both sides, realistic: the number that papers print."""
        return self.filtered["both"]["realistic"]["mrr"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the filtered sides at the top, as in `["both"]["realistic"]["mrr"]`."""
        return {
            "split": self.split,
            **self.filtered,
            "raw": self.raw,
            "seen": self.seen,
            "sampled": {"negatives": NEGATIVES, **self.sampled},
            "counts": self.counts,
        }


def evaluate_model(
    model: ScoresTails,
    dataset: KGDataset,
    split: str = "test",
    chunk_size: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Rank the head and the tail of every triple of a split among all entities.

    The filter holds train and valid when `split` is train or valid, so that selecting a model by
    it uses nothing of test; it holds all three when `split` is test.

    Args:
        model: anything that has `score_t`; head queries come as `(t, r + num_relations)`.
        dataset: the triples.
        split: `"train"`, `"valid"` or `"test"`.
        chunk_size: answers ranked at a time; the default fits the cache.
        progress: show a progress bar.

    Raises:
        ScoreError: when a score is NaN or infinite.
        ValueError: for an unknown or empty split.
    """
    triples, num_relations = dataset.split(split), dataset.num_relations
    if not len(triples):
        raise ValueError(f"the {split} split holds no triples")
    parts = [dataset.train, dataset.valid] + ([dataset.test] if split == "test" else [])
    known = AnswerIndex(with_inverses(torch.cat(parts), num_relations), 2 * num_relations)
    # Both sides at once: an entity asked from either side is one pass of a model that makes passes.
    queries = with_inverses(triples, num_relations)
    ranks = rank_tails(
        model, queries, known, dataset.num_entities, chunk_size, split if progress else None
    )
    tail = [part[: len(triples)] for part in ranks]
    head = [part[len(triples) :] for part in ranks]
    seen_entity = torch.zeros(dataset.num_entities, dtype=torch.bool)
    seen_entity[dataset.train[:, [0, 2]].flatten()] = True
    seen_relation = torch.zeros(num_relations, dtype=torch.bool)
    seen_relation[dataset.train[:, 1]] = True
    seen = seen_entity[triples[:, 0]] & seen_entity[triples[:, 2]] & seen_relation[triples[:, 1]]
    everything = torch.ones_like(seen)
    return Evaluation(
        split=split,
        filtered=_by_side(head[0], tail[0], everything),
        raw=_by_side(head[1], tail[1], everything),
        seen=_by_side(head[0], tail[0], seen) if bool(seen.any()) else {},
        sampled=sampled_metrics_of(Ranks.concatenate(head[0], tail[0])),
        counts={
            "triples": len(triples),
            "queries": 2 * len(triples),
            "entities": dataset.num_entities,
            "unseen_entities": int((~seen_entity[triples[:, [0, 2]].unique()]).sum()),
            "unseen_relations": int((~seen_relation[triples[:, 1].unique()]).sum()),
            "unseen_triples": int((~seen).sum()),
        },
    )


def _by_side(head: Ranks, tail: Ranks, mask: Tensor) -> dict[str, dict[str, Metrics]]:
    """Side → policy → metric of the triples at a mask."""
    head, tail = head[mask], tail[mask]
    return {
        "both": metrics_of(Ranks.concatenate(head, tail)),
        "head": metrics_of(head),
        "tail": metrics_of(tail),
    }
