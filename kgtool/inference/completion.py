"""The likeliest missing triples of a whole graph.

Every entity is asked for the relations that it may have (`kgtool.data.statistics`), its best
answers are kept in a pool of bounded size, and the pool's answers are then asked the other way
round, which gives them their probability. Valid's facts are asked for too, as if nobody knew them.
How many of the pool are confirmed so corrects the probabilities, which the best of very many
answers would otherwise exceed; then they are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm.auto import tqdm

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.data.statistics import Expected
from kgtool.evaluation.calibration import Floats
from kgtool.evaluation.candidates import Types
from kgtool.evaluation.ranking import ScoresTails
from kgtool.inference.probability import Probability
from kgtool.inference.top_k import asked_features, best_answers, features

# Answers of a question that may enter the pool, and how much larger it is than what is wanted.
ANSWERS = 10
POOL = 5
LEAST_POOL = 1000
# Entities that are asked together.
HEADS = 64


@dataclass(frozen=True, eq=False)
class Completion:
    """New triples, likeliest first.

    Attributes:
        triples: `(m, 3)` int64.
        score: `(m,)` float64, of the tail among all entities.
        probability: `(m,)` float64, see `kgtool.inference.probability`.
        asked: how many entities were asked, all but for an interruption.
        of: of how many.
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
    relations: Sequence[int] | None = None,
    types: Types | None = None,
    progress: bool = False,
) -> Completion:
    """The likeliest triples that no split holds.

    Ctrl-C ends the asking early: the answer is what the pool holds by then.

    Args:
        model: gives the scores.
        dataset: the facts.
        probability: fitted for the model.
        top: most triples.
        relations: ids to ask for, inverses included; None for all.
        types: leave out tails that it does not allow.
        progress: show a progress bar.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations
    known = answer_index(torch.cat([dataset.train, dataset.test]), num_relations)
    expected = Expected(dataset.train, n, num_relations)
    wanted = np.zeros(2 * num_relations, dtype=bool)
    wanted[list(range(num_relations) if relations is None else relations)] = True
    size = max(POOL * top, LEAST_POOL)
    pool = _Pool.empty()
    asked = 0
    with tqdm(total=n, desc="entities", unit="entity", disable=not progress) as bar:
        try:
            for heads in torch.arange(n).split(HEADS):
                hr, _ = expected.questions(heads, wanted)
                found = best_answers(model, hr, known, n, ANSWERS, types=types)
                triples = found.triples(hr)
                x = asked_features(triples, found.said, known)
                key = torch.from_numpy(probability.of_asked(x, triples[:, 1]))
                pool = pool.with_more(_Pool(triples, found.said, key), size)
                asked += len(heads)
                bar.update(len(heads))
        except KeyboardInterrupt:
            if not asked:
                raise
    x = features(model, pool.triples, pool.said, known, n, num_relations)
    chance = probability.of(x, pool.triples[:, 1])
    confirmed = answer_index(dataset.valid, num_relations).contains(pool.triples).numpy()
    chance = _corrected(chance, confirmed)
    best = np.argsort(-chance, kind="stable")
    best = best[~confirmed[best]][:top]
    return Completion(pool.triples[best], pool.said[best, 0], chance[best], asked, n)


def _corrected(probability: Floats, confirmed: NDArray[np.bool_]) -> Floats:
    """`(m,)`: probabilities whose log-odds are moved and scaled to fit what is confirmed `(m,)`."""
    if not confirmed.any() or confirmed.all():
        return probability
    odds = logit(probability.clip(1e-9, 1 - 1e-9))[:, None]
    fitted = LogisticRegression(C=np.inf).fit(odds, confirmed)
    corrected: Floats = fitted.predict_proba(odds)[:, 1]
    return corrected


@dataclass(frozen=True, eq=False)
class _Pool:
    """The answers kept so far, likeliest first."""

    triples: Tensor
    said: Tensor
    key: Tensor

    @classmethod
    def empty(cls) -> _Pool:
        """One without answers."""
        none = torch.empty(0, 3, dtype=torch.double)
        return cls(none.long(), none, none[:, 0])

    def with_more(self, more: _Pool, size: int) -> _Pool:
        """The likeliest of these and more."""
        key = torch.cat([self.key, more.key])
        best = torch.argsort(key, descending=True, stable=True)[:size]
        triples = torch.cat([self.triples, more.triples])[best]
        return _Pool(triples, torch.cat([self.said, more.said])[best], key[best])
