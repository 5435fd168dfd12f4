"""The best and the worst predictions: which to show, what the model answers there, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import RunError
from kgtool.evaluation.analysis.breakdown import ENTITIES
from kgtool.evaluation.ranking import ScoresTails
from kgtool.inference.explain import Explanation, explain_triple, name_path
from kgtool.models.scorers import PathScorer, Scorer

SEEN = ENTITIES[0]
CASES = 5  # of each kind
ANSWERS = 5
PATHS = 5
# How far a score may be from the one that stands in the file of ranks: other machines round
# otherwise, other weights score otherwise.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Answer:
    """One of the model's answers.

    Attributes:
        entity: its label.
        score: the model's.
        known: the split that holds it as a fact, or `"answer"` where it is the one asked for; empty
            where no triple of the filter says so.
    """

    entity: str
    score: float
    known: str


@dataclass(frozen=True)
class Case:
    """A query, what was asked for, and what the model says.

    Attributes:
        head, relation, tail: labels of the triple.
        side: which of them was asked for.
        rank: of the answer, filtered, realistic.
        candidates: among how many.
        by_count: the place that `count_ranks` gives it.
        score: of the answer.
        groups: grouping → the query's, as in category → 1-N.
        answers: the model's first, best first.
        why: the paths that carried the answer's score; None of a model that reads no paths.
        why_other: those of the first answer that no triple of the filter holds, where it comes
            before the answer.
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
    why: Explanation | None
    why_other: Explanation | None


def count_ranks(dataset: KGDataset, queries: Tensor) -> Tensor:
    """`(q,)` float64: the place of each answer if answers came by how often train gives them.

    That is raw, realistic, and knows of a query `(h, r, t)` only its relation and direction. A
    right answer far down that list was not guessed.

    Args:
        dataset: gives the train triples.
        queries: `(q, 3)` int64, head queries as the inverses of their triples.
    """
    n = dataset.num_entities
    train = with_inverses(dataset.train, dataset.num_relations)
    pair, count = torch.unique(train[:, 1] * n + train[:, 2], return_counts=True)
    most = int(count.max()) + 1 if len(count) else 1
    ordered = (pair // n * most + count).sort()[0]  # by relation, then count
    relation, tail = queries[:, 1], queries[:, 2]
    asked = relation * n + tail
    place = torch.searchsorted(pair, asked).clamp(max=max(len(pair) - 1, 0))
    own = torch.zeros_like(asked)
    if len(pair):
        own = torch.where(pair[place] == asked, count[place], 0)
    end = torch.searchsorted(ordered, (relation + 1) * most)
    above = end - torch.searchsorted(ordered, relation * most + own, right=True)
    level = end - above - torch.searchsorted(ordered, relation * most + own)
    never = n - (end - torch.searchsorted(ordered, relation * most))
    level = torch.where(own == 0, never, level)
    return above + (level + 1).double() / 2


def choose(
    ranks: pd.DataFrame, by_count: Tensor, cases: int = CASES
) -> tuple[list[int], list[int]]:
    """The rows of the best and of the worst predictions, at most one a relation and side.

    Best are first places, without a tie, of the answers that counting (`count_ranks`) places last;
    worst are the answers placed last, of queries whose entities train has seen, where any are:
    of others a model can know nothing.

    Args:
        ranks: a row a query, see `kgtool.evaluation.analysis.rank_table`.
        by_count: `(q,)`, in its order.
        cases: most of each kind.
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
            "the file of ranks holds labels that the data lack. Remedy: run `kgtool evaluate` "
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
    model: ScoresTails,
    scorer: Scorer | PathScorer,
    dataset: KGDataset,
    splits: Sequence[str],
) -> list[Case]:
    """Ask the model again, and ask it why.

    Args:
        rows: of `ranks`.
        ranks, by_count: as of `choose`.
        model: what was ranked: the run's, with other runs' scores or without.
        scorer: the run's, which is asked why.
        dataset: what is known.
        splits: the filter's.

    Raises:
        RunError: when a score is not the one that the ranks were made of.
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
                f"the ranks are of other weights: ({row.head}, {row.relation}, {row.tail}) scores "
                f"{float(found[entity]):.3f}, where they say {row.score:.3f}. Remedy: run "
                "`kgtool evaluate` again."
            )
        answers = _answers(found, query, dataset, splits)
        other = next((a for a in answers if not a.known), None) if row.rank > 1 else None
        if other is not None and other.score < row.score:
            other = None
        cases.append(
            Case(
                row.head, row.relation, row.tail, row.side, row.rank, int(row.candidates),
                float(by_count[place]), row.score,
                {
                    name: str(getattr(row, name))
                    for name in ("category", "degree", "distance", "entities")
                    if hasattr(row, name)
                },
                tuple(answers),
                _explain(scorer, dataset, query),
                None if other is None else _explain(scorer, dataset, query, other.entity),
            )
        )  # fmt: skip
    return cases


def _answers(
    scores: Tensor, query: Tensor, dataset: KGDataset, splits: Sequence[str]
) -> list[Answer]:
    vocabulary, n = dataset.vocabulary, dataset.num_relations
    best, order = scores.topk(min(ANSWERS, len(scores)))
    known: dict[int, str] = {}
    for split in splits:
        triples = with_inverses(dataset.split(split), n)
        tails = triples[(triples[:, :2] == query[:2]).all(1), 2].tolist()
        known |= {tail: split for tail in tails if tail not in known}
    known[int(query[2])] = "answer"
    return [
        Answer(vocabulary.entities[entity], score, known.get(entity, ""))
        for score, entity in zip(best.tolist(), order.tolist(), strict=True)
    ]


def _explain(
    scorer: Scorer | PathScorer, dataset: KGDataset, query: Tensor, instead: str | None = None
) -> Explanation | None:
    """Why a query's answer, or another instead, has its score; of the triple as it was asked."""
    if isinstance(scorer, Scorer):
        return None
    vocabulary, n = dataset.vocabulary, dataset.num_relations
    head, relation, tail = query.tolist()
    tail = tail if instead is None else vocabulary.entity_ids[instead]
    found = explain_triple(scorer.decoder, scorer.graph, (head, relation, tail), feed=scorer.feed)
    name = vocabulary.relations[relation % n]
    return Explanation(
        (
            vocabulary.entities[head],
            name if relation < n else f"^{name}",
            vocabulary.entities[tail],
        ),
        tuple(name_path(path, vocabulary) for path in found[:PATHS]),
    )
