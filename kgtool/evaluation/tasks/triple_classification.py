"""Triple classification: does `(h, r, t)` hold, and with what probability?

What a model says of a triple is its scores from either end and the logarithms of the softmax among
all tails and among all heads. Platt scaling makes one probability of them
(`kgtool.evaluation.calibration`), fitted on the triples of valid and on negatives beside them. A
triple is taken to hold where its probability is above its relation's threshold, the one that tells
most triples of valid right.

A probability is of triples like those it was fitted on: half of them hold, and the others are as
hard to tell as the negatives are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from torch import Tensor

from kgtool.data.dataset import KGDataset, Vocabulary, invert
from kgtool.evaluation.calibration import (
    Floats,
    Platt,
    calibration_table,
    expected_calibration_error,
    fit_platt,
)
from kgtool.evaluation.likelihood import tail_likelihood
from kgtool.evaluation.ranking import ScoresTails

# Draws of a negative before any entity may take the place.
TRIES = 50


def triple_features(
    models: Sequence[ScoresTails], triples: Tensor, num_entities: int, num_relations: int
) -> Floats:
    """What models say of triples.

    Args:
        models: score tails.
        triples: `(n, 3)` int64.
        num_entities, num_relations: of the data, inverses not counted.

    Returns:
        `(n, 4 · models)` float64: for each model the score and `log P(t | h, r)`, then the same of
        the inverse triple.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    columns = [
        tail_likelihood(model, asked, num_entities)
        for model in models
        for asked in (triples, invert(triples, num_relations))
    ]
    return torch.cat(columns, dim=1).numpy()


def sample_negatives(dataset: KGDataset, split: str, seed: int = 0) -> Tensor:
    """A false triple for each triple of a split: its head or its tail replaced at random.

    By an entity that train shows at that place of the relation, as Socher et al. (2013) do, so that
    the kind of entity does not give it away. Never by one that makes a known triple, of train and
    valid, and for test of test.

    Returns:
        `(n, 3)` int64.
    """
    generator = torch.Generator().manual_seed(seed)
    positives = dataset.split(split)
    n, num_relations = dataset.num_entities, dataset.num_relations

    def key(triples: Tensor) -> Tensor:
        return (triples[:, 0] * num_relations + triples[:, 1]) * n + triples[:, 2]

    known = key(torch.cat([dataset.known(split), positives]))
    place = 2 * torch.randint(2, (len(positives),), generator=generator)  # 0 head, 2 tail
    negatives = positives.clone()
    left = torch.arange(len(positives))
    # The train triples of each relation, one of which lends its entity.
    order = torch.argsort(dataset.train[:, 1], stable=True)
    count = torch.bincount(dataset.train[:, 1], minlength=num_relations)
    first = count.cumsum(0) - count
    for attempt in range(TRIES):
        for side in (0, 2):
            rows = left[place[left] == side]
            relation = positives[rows, 1]
            drawn = torch.rand(len(rows), dtype=torch.double, generator=generator)
            lender = first[relation] + (drawn * count[relation]).long()
            anyone = torch.randint(n, (len(rows),), generator=generator)
            lent = dataset.train[order[lender.clamp(max=len(order) - 1)], side]
            shown = (count[relation] > 0) & (attempt < TRIES // 2)
            negatives[rows, side] = torch.where(shown, lent, anyone)
        left = left[torch.isin(key(negatives[left]), known)]
        if not len(left):
            break
    kept = torch.ones(len(positives), dtype=torch.bool)
    kept[left] = False  # where every entity makes a known triple
    return negatives[kept]


@dataclass(frozen=True, eq=False)
class Classifier:
    """What was fitted on valid.

    Attributes:
        platt: from features to a probability.
        thresholds: `(R,)` float64; a half for a relation that valid does not show.
    """

    platt: Platt
    thresholds: Floats


def fit_classifier(
    features: Floats, relation: NDArray[np.int64], holds: NDArray[np.bool_], num_relations: int
) -> Classifier:
    """Fit on the triples of valid and their negatives.

    Args:
        features: `(n, k)`.
        relation: `(n,)`.
        holds: `(n,)`, whether a triple is one of valid.
        num_relations: R.
    """
    platt = fit_platt(features, relation, holds, num_relations)
    probability = platt.probability(features, relation)
    thresholds = np.full(num_relations, 0.5)
    for r in np.unique(relation):
        of_r = relation == r
        thresholds[r] = best_threshold(probability[of_r], holds[of_r])
    return Classifier(platt, thresholds)


def best_threshold(probability: Floats, holds: NDArray[np.bool_]) -> float:
    """The threshold that tells most triples right; of several, the nearest to a half.

    What is at the threshold or above is taken to hold. Between two probabilities it lies in the
    middle.

    Args:
        probability: `(n,)`, n at least 1.
        holds: `(n,)`.
    """
    values = np.unique(probability)
    cuts = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [np.nextafter(1.0, 2.0)]])
    taken = probability[None, :] >= cuts[:, None]
    right = (taken == holds[None, :]).sum(1)
    best = cuts[right == right.max()]
    return float(best[np.abs(best - 0.5).argmin()])


@dataclass(frozen=True, eq=False)
class TripleEvaluation:
    """How well triples of a split are told from negatives.

    Attributes:
        split: the split.
        negatives: `"given"` by the data set, or `"sampled"`.
        metrics: `accuracy`, `f1`, `precision`, `recall` of triples that hold, `roc_auc`,
            `average_precision`, and `ece`, the expected calibration error.
        calibration: a row a bin of probability, see `kgtool.evaluation.calibration`.
        triples: `(n, 3)` int64.
        holds, probability, threshold: `(n,)`, of those.
    """

    split: str
    negatives: str
    metrics: dict[str, float]
    calibration: pd.DataFrame
    triples: Tensor
    holds: NDArray[np.bool_]
    probability: Floats
    threshold: Floats

    def predictions(self, vocabulary: Vocabulary) -> pd.DataFrame:
        """A row a triple: labels, whether it holds and is taken to, by which threshold."""
        head, relation, tail = self.triples.T.tolist()
        return pd.DataFrame(
            {
                "head": [vocabulary.entities[i] for i in head],
                "relation": [vocabulary.relations[i] for i in relation],
                "tail": [vocabulary.entities[i] for i in tail],
                "holds": self.holds,
                "probability": self.probability,
                "threshold": self.threshold,
                "taken": self.probability >= self.threshold,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "split": self.split,
            "negatives": self.negatives,
            "counts": {"hold": int(self.holds.sum()), "do not": int((~self.holds).sum())},
            **self.metrics,
            "calibration": self.calibration.to_dict("records"),
        }


def evaluate_triples(
    models: Sequence[ScoresTails],
    dataset: KGDataset,
    split: str = "test",
    negatives: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> TripleEvaluation:
    """Tell the triples of a split from negatives, fitted on valid and its negatives.

    Args:
        models: score tails.
        dataset: gives the triples.
        split: `"valid"` or `"test"`; on valid itself the fit flatters.
        negatives: of valid and of the split, `(n, 3)` int64; None to draw one a triple.
        seed: of the draws.

    Raises:
        ScoreError: when a score is NaN or infinite.
        ValueError: when valid or the split holds no triples.
    """
    for name in ("valid", split):
        if not len(dataset.split(name)):
            raise ValueError(f"the {name} split holds no triples")

    def told(name: str) -> tuple[Tensor, NDArray[np.bool_], Floats]:
        positive = dataset.split(name)
        false = sample_negatives(dataset, name, seed) if negatives is None else negatives[name]
        triples = torch.cat([positive, false])
        features = triple_features(models, triples, dataset.num_entities, dataset.num_relations)
        return triples, np.arange(len(triples)) < len(positive), features

    triples, holds, features = told("valid")
    relation = triples[:, 1].numpy()
    classifier = fit_classifier(features, relation, holds, dataset.num_relations)
    if split != "valid":
        triples, holds, features = told(split)
    relation = triples[:, 1].numpy()
    probability = classifier.platt.probability(features, relation)
    threshold = classifier.thresholds[relation]
    table = calibration_table(probability, holds)
    taken = probability >= threshold
    metrics = {
        "accuracy": accuracy_score(holds, taken),
        "f1": f1_score(holds, taken),
        "precision": precision_score(holds, taken, zero_division=0.0),
        "recall": recall_score(holds, taken),
        "roc_auc": roc_auc_score(holds, probability),
        "average_precision": average_precision_score(holds, probability),
        "ece": expected_calibration_error(probability, holds),
    }
    return TripleEvaluation(
        split,
        "sampled" if negatives is None else "given",
        {name: float(value) for name, value in metrics.items()},
        table, triples, holds, probability, threshold,
    )  # fmt: skip
