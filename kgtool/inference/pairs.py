"""The chance that a relation which the graph lacks holds between two entities.

`kgtool.evaluation.tasks.relation_prediction` says which relation holds, if one does:
`P(r | h, t, some)`. Most pairs have none. Here, the probability of the pair's likeliest new triple
(`kgtool.inference.probability`) gives `P(some | h, t)`, by two numbers that are fitted on the pairs
of valid and on random pairs, each kind weighted by its frequency among all pairs.

A conditional model takes two passes for each relation of a pair, so the pairs of a fit would take
minutes. `TripleChance` fits nothing: each triple has its own probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import SPLITS, KGDataset, invert
from kgtool.evaluation.calibration import Floats, fit_marked
from kgtool.evaluation.tasks.relation_prediction import (
    RelationModel,
    count_relations,
    fit_relations,
)
from kgtool.inference.probability import Probability, fit_probability
from kgtool.inference.top_k import features, triple_scores
from kgtool.models.scorers import Scorer, ScoresTails
from kgtool.storage.checkpoint import load_fitted, save_tensors

# Pairs of valid, and heads and tails of random pairs: each head with each tail.
PAIRS, ENDS = 300, 40
# The most relations of a pair that a conditional model scores: two passes each.
SCORED = 100


@dataclass(frozen=True, eq=False)
class PairChance:
    """A fit of the chance.

    Attributes:
        model: scores tails.
        relations: the model of `P(r | h, t, some)`.
        probability: of triples.
        fitted: `(2,)` float64, slope and constant of the log-odds.
    """

    model: ScoresTails
    relations: RelationModel
    probability: Probability
    fitted: Floats

    def of(self, pairs: Tensor, dataset: KGDataset, known: AnswerIndex) -> tuple[Tensor, Tensor]:
        """Scores `(n, R)` of the relations of pairs `(n, 2)` int64, and their probabilities.

        A probability is `P(some | h, t) P(r | h, t, some)`; it is 0 for a known fact.

        Args:
            pairs: heads and tails.
            dataset: the data.
            known: the known facts, inverses included.
        """
        scores = self.relations.score_t(pairs)
        which, odds = _best(
            self.model, self.probability, scores, pairs, dataset=dataset, known=known
        )
        slope, constant = self.fitted
        some = expit(slope * odds + constant + np.log1p(-self.probability.marked))
        return scores, which * torch.from_numpy(some).unsqueeze(1)


@dataclass(frozen=True, eq=False)
class TripleChance:
    """The chance of each triple of a pair, for a model that takes a pass for each query.

    A triple has two log odds: as an answer to `(h, r, ?)`, and as one to `(t, r⁻¹, ?)`. Its score
    is their mean. Without `probability`, its score is the mean of Bayes' rule from either end,
    `log P(t | h, r) + log P(r | h)` and `log P(h | t, r⁻¹) + log P(r⁻¹ | t)`, where relations are
    counted on train.

    The model scores the `SCORED` relations that head and tail have most often, known facts first,
    and all if there are no more. The others have the score -inf.

    Attributes:
        model: scores tails.
        probability: of triples; None if it could not be fitted.
        counts: the relations of each entity, on train.
    """

    model: ScoresTails
    probability: Probability | None
    counts: RelationModel

    @classmethod
    def on(
        cls, model: ScoresTails, probability: Probability | None, dataset: KGDataset
    ) -> TripleChance:
        """The chance on a data set; train is counted."""
        return cls(model, probability, count_relations([], dataset))

    def of(
        self, pairs: Tensor, dataset: KGDataset, known: AnswerIndex, progress: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As `PairChance.of`; the probability is NaN where the model scores no triple.

        Args:
            pairs, dataset, known: as for `PairChance.of`.
            progress: show a progress bar.
        """
        n, num_relations = dataset.num_entities, dataset.num_relations
        at_head, at_tail, _ = self.counts.features(pairs).unbind(2)
        prior = (at_head.log_softmax(1) + at_tail.log_softmax(1)).double()
        first = prior.masked_fill(_known(pairs, num_relations, known), torch.inf)
        best = first.topk(min(SCORED, num_relations), dim=1).indices
        row = torch.arange(len(pairs)).repeat_interleave(best.shape[1])
        relation = best.flatten()
        triples = torch.stack([pairs[row, 0], relation, pairs[row, 1]], dim=1)
        sides = torch.cat([triples, invert(triples, num_relations)])
        of_sides = triple_scores(self.model, sides, known, n, progress=progress)
        scores = torch.full_like(prior, -torch.inf)
        chance = torch.full_like(prior, torch.nan)
        if self.probability is None:
            forward, back = of_sides[:, 1].chunk(2)
            scores[row, relation] = (forward + back + prior[row, relation]) / 2
            return scores, chance
        x = features(
            self.model, sides, of_sides, known, num_entities=n, num_relations=num_relations
        )
        odds = torch.from_numpy(self.probability.log_odds(x, sides[:, 1])).view(2, -1).mean(0)
        scores[row, relation], chance[row, relation] = odds, odds.sigmoid()
        return scores, chance


@dataclass(frozen=True, eq=False)
class _HeldOutRelations:
    """A `TripleChance` as a model whose `score_t` scores the relations of pairs.

    Attributes:
        chance, dataset, known, progress: see `TripleChance.of`.
    """

    chance: TripleChance
    dataset: KGDataset
    known: AnswerIndex
    progress: bool

    def score_t(self, pairs: Tensor) -> Tensor:
        """`(n, R)` float64. The relations that the model does not score are last, in one tie."""
        scores, _ = self.chance.of(pairs, self.dataset, self.known, self.progress)
        lowest = scores.masked_fill(scores == -torch.inf, torch.inf).min(1, keepdim=True).values
        return torch.maximum(scores, lowest - 1)


def held_out_relations(
    models: Sequence[Scorer], dataset: KGDataset, split: str, progress: bool = False
) -> ScoresTails:
    """The model that ranks the relations of a held-out split: the one that predictions use.

    It is a `TripleChance` for one model that takes a pass for each query, and else a
    `RelationModel`; both are fitted on valid.

    Args:
        models: score triples.
        dataset: the data.
        split: the split. Its triples are not known facts.
        progress: show a progress bar for each chunk of pairs of a `TripleChance`.
    """
    if len(models) > 1 or not models[0].one_query_a_pass:
        return fit_relations(models, dataset)
    facts = [dataset.split(name) for name in SPLITS[: SPLITS.index(split)]] or [dataset.train]
    known = answer_index(torch.cat(facts), dataset.num_relations)
    probability = fit_probability(models[0], replace(dataset, test=dataset.test[:0]))
    chance = TripleChance.on(models[0], probability, dataset)
    return _HeldOutRelations(chance, dataset, known, progress)


def fit_pairs(
    model: ScoresTails,
    relations: RelationModel,
    probability: Probability,
    dataset: KGDataset,
    seed: int = 0,
) -> PairChance:
    """Fit the chance on a sample of pairs.

    Args:
        model: scores tails.
        relations: fitted on valid.
        probability: fitted on valid, with the assumption of missing facts.
        dataset: train and test are known facts; valid has some of the facts that they lack.
        seed: of the pairs.
    """
    n = dataset.num_entities
    known = answer_index(torch.cat([dataset.train, dataset.test]), dataset.num_relations)
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.unique(dataset.valid[:, ::2], dim=0)
    own = held_out[torch.randperm(len(held_out), generator=generator)[:PAIRS]]
    heads, tails = (torch.randperm(n, generator=generator)[:ENDS] for _ in range(2))
    random = torch.cartesian_prod(heads, tails)
    random = random[~torch.isin(random @ torch.tensor([n, 1]), held_out @ torch.tensor([n, 1]))]
    pairs = torch.cat([own, random])
    holds = np.arange(len(pairs)) < len(own)
    # A pair of valid counts once, and a random pair for as many as there are per pair of valid.
    of_random = (n**2 / len(held_out)) * len(own) / max(len(random), 1)
    weight = np.where(holds, 1.0, of_random)
    scores = relations.score_t(pairs)
    odds = _best(model, probability, scores, pairs, dataset=dataset, known=known)[1]
    (slope,), (constant,) = fit_marked(odds[:, None], holds, probability.marked, weight, toward=1.0)
    return PairChance(model, relations, probability, np.array([slope, constant]))


def _best(
    model: ScoresTails,
    probability: Probability,
    scores: Tensor,
    pairs: Tensor,
    *,
    dataset: KGDataset,
    known: AnswerIndex,
) -> tuple[Tensor, Floats]:
    """`P(r | h, t, some)` `(n, R)` of new relations, and `(n,)` log-odds of the likeliest triple.

    Args:
        model, probability, dataset, known: as for `PairChance`.
        scores: `(n, R)` of the relations.
        pairs: `(n, 2)`.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations
    is_known = _known(pairs, num_relations, known)
    # Where all relations are known, none is new.
    which = scores.masked_fill(is_known, -torch.inf).softmax(1).nan_to_num(0.0)
    triples = torch.stack([pairs[:, 0], which.argmax(1), pairs[:, 1]], dim=1)
    of_triples = triple_scores(model, triples, known, n)
    x = features(model, triples, of_triples, known, num_entities=n, num_relations=num_relations)
    odds: Floats = logit(probability.of(x, triples[:, 1]).clip(1e-9, 1 - 1e-9))
    return which, odds


def triples_of(pairs: Tensor, num_relations: int) -> Tensor:
    """`(n · R, 3)` int64: the triples of pairs `(n, 2)` with each relation, pair by pair."""
    head, tail = (end.repeat_interleave(num_relations) for end in pairs.unbind(1))
    return torch.stack([head, torch.arange(num_relations).repeat(len(pairs)), tail], dim=1)


def _known(pairs: Tensor, num_relations: int, known: AnswerIndex) -> Tensor:
    """`(n, R)` bool: the known relations of pairs `(n, 2)`."""
    return known.contains(triples_of(pairs, num_relations)).view(len(pairs), num_relations)


def save_pairs(chance: PairChance, path: Path) -> None:
    """Write the two numbers of a fit to a file, completely or not at all."""
    save_tensors(path, {"fitted": torch.from_numpy(chance.fitted)}, {})


def load_pairs(path: Path) -> Floats:
    """Read the two numbers of a fit.

    Raises:
        RunError: if the file is damaged.
    """
    tensors, _ = load_fitted(path, {"fitted": torch.empty(2, dtype=torch.double)})
    fitted: Floats = tensors["fitted"].numpy()
    return fitted
