"""Example predictions for the report: the best and the worst ones, with explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import RunError
from kgtool.evaluation.analysis.breakdown import ENTITIES
from kgtool.inference.explain import Explanation
from kgtool.models.scorers import ModelScorer, ScoresTails

SEEN = ENTITIES[0]
GROUPS = ("category", "degree", "distance", "entities", "half_links")  # that a case shows
CASES = 5  # of each kind
ANSWERS = 5
PATHS = 5
# The largest difference to a score in the file of ranks: rounding differs between machines, but a
# larger difference means other weights.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Answer:
    """One of the model's answers.

    Attributes:
        entity: its label.
        score: its score.
        rank: filtered, realistic rank.
        is_asked: whether it is the answer of the query.
    """

    entity: str
    score: float
    rank: float
    is_asked: bool


@dataclass(frozen=True)
class Case:
    """A query, its answer, and the model's predictions.

    Attributes:
        head, relation, tail: labels of the triple.
        side: the side that the query asks for.
        rank: filtered, realistic rank of the answer.
        candidates: number of candidates.
        by_count: rank of the answer by `count_ranks`.
        score: score of the answer.
        groups: grouping → group of the query, such as category → 1-N.
        answers: the model's top answers, best first, and the answer of the query. As in the rank,
            other known answers are left out.
        known: other known answers with a score above the last of the top answers, best first, with
            the splits that have them; `CASES` at most.
        known_count: number of such answers.
        why: explanation of the answer's score; None unless the model is an all-paths model.
        why_other: explanation of the first unknown answer that is ranked above the answer, if any.
    """

    head: str
    relation: str
    tail: str
    side: str
    rank: float
    candidates: int
    by_count: float
    score: float
    groups: dict[str, str]
    answers: tuple[Answer, ...]
    known: tuple[tuple[str, str], ...]
    known_count: int
    why: Explanation | None
    why_other: Explanation | None


def count_ranks(dataset: KGDataset, queries: Tensor) -> Tensor:
    """`(q,)` float64: the rank of each answer by its frequency with the relation in train.

    The ranks are raw and realistic; they ignore the query's entity. A correct prediction with a low
    rank here was not a guess.

    Args:
        dataset: the data; only train is used.
        queries: `(q, 3)` int64, head queries as the inverses of their triples.
    """
    n = dataset.num_entities
    train = with_inverses(dataset.train, dataset.num_relations)
    pair, count = torch.unique(train[:, 1] * n + train[:, 2], return_counts=True)
    most = int(count.max()) + 1 if len(count) else 1
    ordered = (pair // n * most + count).sort()[0]  # by relation, then count
    relation, tail = queries[:, 1], queries[:, 2]
    answer = relation * n + tail
    place = torch.searchsorted(pair, answer).clamp(max=max(len(pair) - 1, 0))
    own = torch.zeros_like(answer)
    if len(pair):
        own = torch.where(pair[place] == answer, count[place], 0)
    end = torch.searchsorted(ordered, (relation + 1) * most)
    above = end - torch.searchsorted(ordered, relation * most + own, right=True)
    level = end - above - torch.searchsorted(ordered, relation * most + own)
    never = n - (end - torch.searchsorted(ordered, relation * most))
    level = torch.where(own == 0, never, level)
    return above + (level + 1).double() / 2


def choose(
    ranks: pd.DataFrame, by_count: Tensor, cases: int = CASES
) -> tuple[list[int], list[int]]:
    """The rows of the best and of the worst predictions, at most one per relation and side.

    The best predictions have rank 1 without a tie, and the worst rank by `count_ranks`. The worst
    predictions have the largest ranks, among queries whose entities occur in train, if there are
    any: a model knows nothing of other entities.

    Args:
        ranks: a row per query, see `kgtool.evaluation.analysis.rank_table`.
        by_count: `(q,)`, in the order of `ranks`.
        cases: the most rows of each kind.
    """
    frame = ranks.assign(by_count=by_count.numpy()).reset_index(drop=True)
    won = frame[frame["pessimistic"] == 1].sort_values("by_count", ascending=False, kind="stable")
    lost = frame[frame["rank"] > 1].sort_values("rank", ascending=False, kind="stable")
    if "entities" in lost and (lost["entities"] == SEEN).any():
        lost = lost[lost["entities"] == SEEN]
    best, worst = (
        rows.drop_duplicates(["relation", "side"]).index[:cases].tolist() for rows in (won, lost)
    )
    return best, worst


def queries_of(ranks: pd.DataFrame, dataset: KGDataset) -> Tensor:
    """`(q, 3)` int64: the queries of a table of ranks, head queries inverted.

    Raises:
        RunError: when a label is not the data's.
    """
    vocabulary = dataset.vocabulary
    ids = (vocabulary.entity_ids, vocabulary.relation_ids, vocabulary.entity_ids)
    columns = [
        ranks[name].map(of) for name, of in zip(("head", "relation", "tail"), ids, strict=True)
    ]
    if any(column.isna().any() for column in columns):
        raise RunError(
            "the file of ranks has labels that are not in the data. Remedy: run `kgtool evaluate` "
            "again."
        )
    head, relation, tail = (torch.tensor(c.to_numpy(dtype="int64")) for c in columns)
    flip = torch.tensor((ranks["side"] == "head").to_numpy())
    return torch.stack(
        [
            torch.where(flip, tail, head),
            relation + flip * dataset.num_relations,
            torch.where(flip, head, tail),
        ],
        dim=1,
    )


def describe(
    rows: Sequence[int],
    ranks: pd.DataFrame,
    by_count: Tensor,
    *,
    model: ScoresTails,
    scorer: ModelScorer,
    dataset: KGDataset,
    splits: Sequence[str],
) -> list[Case]:
    """The cases of some rows, with the model's answers and explanations.

    Args:
        rows: positions in `ranks`.
        ranks, by_count: as for `choose`.
        model: the ranked model: the run, or an ensemble with other runs.
        scorer: the run's scorer, for explanations.
        dataset: the data.
        splits: the splits of the filter.

    Raises:
        RunError: if a score differs from the one in the file of ranks.
    """
    if not rows:
        return []
    chosen = ranks.iloc[list(rows)]
    queries = queries_of(chosen, dataset)
    scores = model.score_t(queries[:, :2]).float()
    cases = []
    for place, row, query, found in zip(rows, chosen.itertuples(), queries, scores, strict=True):
        entity = int(query[2])
        if abs(float(found[entity]) - row.score) > TOLERANCE * (1 + abs(row.score)):
            raise RunError(
                f"the ranks belong to other weights: ({row.head}, {row.relation}, {row.tail}) has "
                f"the score {float(found[entity]):.3f}, but {row.score:.3f} in the file of ranks. "
                "Remedy: run `kgtool evaluate` again."
            )
        held_by = _known(query, dataset, splits)
        known = torch.tensor(sorted(held_by), dtype=torch.long)
        answers = _answers(found, query, known, dataset.vocabulary.entities, row.rank)
        least = answers[min(ANSWERS, len(answers)) - 1].score
        above = [i for i in known[found[known].argsort(descending=True)].tolist()
                 if float(found[i]) >= least]  # fmt: skip
        other = next((a for a in answers if not a.is_asked and a.score >= row.score), None)
        cases.append(
            Case(
                row.head, row.relation, row.tail, row.side, row.rank, int(row.candidates),
                float(by_count[place]), row.score,
                {
                    name: str(getattr(row, name))
                    for name in GROUPS
                    if hasattr(row, name)
                },
                tuple(answers),
                tuple((dataset.vocabulary.entities[i], held_by[i]) for i in above[:CASES]),
                len(above),
                _explain(scorer, dataset, query),
                None if other is None else _explain(scorer, dataset, query, other.entity),
            )
        )  # fmt: skip
    return cases


def _known(query: Tensor, dataset: KGDataset, splits: Sequence[str]) -> dict[int, str]:
    """The other known answers to a query, with the first split that has them."""
    held_by: dict[int, str] = {}
    for split in splits:
        triples = with_inverses(dataset.split(split), dataset.num_relations)
        tails = triples[(triples[:, :2] == query[:2]).all(1), 2].tolist()
        held_by |= {tail: split for tail in tails if tail not in held_by}
    held_by.pop(int(query[2]), None)
    return held_by


def _answers(
    scores: Tensor, query: Tensor, known: Tensor, entities: Sequence[str], rank: float
) -> list[Answer]:
    """The best candidates of a query, then its answer, of `rank`, if that is not among them."""
    candidate = torch.ones_like(scores, dtype=torch.bool)
    candidate[known] = False
    asked = int(query[2])
    own = scores[candidate]
    best = scores.masked_fill(~candidate, -torch.inf).topk(min(ANSWERS, len(own))).indices.tolist()
    if asked not in best:
        best.append(asked)
    answers = []
    for entity in best:
        better, equal = (own > scores[entity]).sum(), (own == scores[entity]).sum()
        place = rank if entity == asked else float(better + (equal + 1) / 2)
        answers.append(Answer(entities[entity], float(scores[entity]), place, entity == asked))
    return answers


def _explain(
    scorer: ModelScorer, dataset: KGDataset, query: Tensor, instead: str | None = None
) -> Explanation | None:
    """The explanation of a query's answer, or of another answer; the triple is as in the query."""
    passes = scorer.passes
    if passes is None:
        return None
    vocabulary = dataset.vocabulary
    head, relation, tail = query.tolist()
    tail = tail if instead is None else vocabulary.entity_ids[instead]
    triple = (head, relation, tail)
    return Explanation.of(scorer, passes, triple, vocabulary, PATHS)
