"""Graph completion: the likeliest missing triples of a whole graph.

For every entity and every relation that it may have (`kgtool.data.statistics`), the best answers
enter a pool of bounded size. The inverse queries of the pool's answers then give the probabilities.
The facts of valid are treated as missing. The probabilities of the best of very many answers are
too high; the share of the pool that valid confirms corrects them, for each relation, where valid
has only the share `Probability.marked` of the true ones. The confirmed triples are then left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack
from scipy.special import expit, logit
from torch import Tensor

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.data.statistics import Expected
from kgtool.evaluation.calibration import Floats, fit_marked
from kgtool.inference.probability import Probability
from kgtool.inference.top_k import AllowsTails, best_answers, features, forward_features
from kgtool.models.scorers import ScoresTails
from kgtool.ops import Progress

# Answers per query that may enter the pool, and the size of the pool as a multiple of `top`.
ANSWERS = 10
POOL = 5
LEAST_POOL = 1000
# Entities per batch of queries.
HEADS = 64


@dataclass(frozen=True, eq=False)
class Completion:
    """New triples, likeliest first.

    Attributes:
        triples: `(m, 3)` int64.
        score: `(m,)` float64, of the tail.
        probability: `(m,)` float64, see `kgtool.inference.probability`.
        asked: number of entities searched; fewer than `of` after an interruption.
        of: number of entities.
    """

    triples: Tensor
    score: Tensor
    probability: Floats
    asked: int
    of: int


def complete(
    model: ScoresTails,
    dataset: KGDataset,
    probability: Probability,
    top: int,
    *,
    relations: Sequence[int] | None = None,
    types: AllowsTails | None = None,
    progress: bool = False,
) -> Completion:
    """The likeliest triples that are in no split.

    Ctrl-C ends the search early; the result is then made from the pool so far.

    Args:
        model: scores tails.
        dataset: the known facts.
        probability: the calibration of the model.
        top: the most triples.
        relations: relation ids to search, inverses included; None for all relations.
        types: leave out the tails that it does not allow.
        progress: show a progress bar.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations
    known = answer_index(torch.cat([dataset.train, dataset.test]), num_relations)
    expected = Expected(dataset.train, n, num_relations)
    wanted = np.zeros(2 * num_relations, dtype=bool)
    wanted[list(range(num_relations) if relations is None else relations)] = True
    size = max(POOL * top, LEAST_POOL)
    pool = _Pool.empty()
    asked = 0
    with Progress(n, "complete", "entity", shown=progress) as bar:
        try:
            for heads in torch.arange(n).split(HEADS):
                hr, _ = expected.questions(heads, wanted)
                answers = best_answers(model, hr, known, n, ANSWERS, types=types)
                triples = answers.triples(hr)
                x = forward_features(triples, answers.scores, known)
                key = torch.from_numpy(probability.of_asked(x, triples[:, 1]))
                pool = pool.with_more(_Pool(triples, answers.scores, key), size)
                asked += len(heads)
                bar.update(len(heads))
        except KeyboardInterrupt:
            if not asked:
                raise
    x = features(
        model, pool.triples, pool.scores, known, num_entities=n, num_relations=num_relations
    )
    chance = probability.of(x, pool.triples[:, 1])
    relation = (pool.triples[:, 1] % num_relations).numpy()
    confirmed = answer_index(dataset.valid, num_relations).contains(pool.triples).numpy()
    chance = _corrected(chance, relation, confirmed, probability.marked)
    best = np.argsort(-chance, kind="stable")
    best = best[~confirmed[best]][:top]
    return Completion(pool.triples[best], pool.scores[best, 0], chance[best], asked, n)


def _corrected(
    probability: Floats, relation: NDArray[np.int64], confirmed: NDArray[np.bool_], marked: float
) -> Floats:
    """`(m,)`: probabilities with log-odds scaled, and shifted by relation, to fit confirmed ones.

    Args:
        probability: `(m,)`, of the triples if they are not confirmed.
        relation: `(m,)`.
        confirmed: `(m,)`.
        marked: the share of the true triples that is confirmed.
    """
    if not confirmed.any() or confirmed.all():
        return probability
    odds = logit(probability.clip(1e-9, 1 - 1e-9))[:, None]
    ids, own = np.unique(relation, return_inverse=True)
    n = len(odds)
    rows = hstack([odds, csr_array((np.ones(n), own, np.arange(n + 1)), shape=(n, len(ids)))])
    # A relation with few triples in the pool gets a small shift.
    toward = np.append(1.0, np.zeros(len(ids)))
    weights, shift = fit_marked(csr_array(rows), confirmed, marked, toward=toward)
    corrected: Floats = expit(rows @ weights + shift + np.log1p(-marked))
    return corrected


@dataclass(frozen=True, eq=False)
class _Pool:
    """The best answers so far, likeliest first."""

    triples: Tensor
    scores: Tensor
    key: Tensor

    @classmethod
    def empty(cls) -> _Pool:
        """A pool without answers."""
        none = torch.empty(0, 3, dtype=torch.double)
        return cls(none.long(), none, none[:, 0])

    def with_more(self, more: _Pool, size: int) -> _Pool:
        """The `size` likeliest answers of this pool and another."""
        key = torch.cat([self.key, more.key])
        best = torch.argsort(key, descending=True, stable=True)[:size]
        triples = torch.cat([self.triples, more.triples])[best]
        return _Pool(triples, torch.cat([self.scores, more.scores])[best], key[best])
