"""Triple classification: is `(h, r, t)` true, and with what probability?

The features of a triple are its scores as tail query and as head query, and the log-softmax of
each. Platt scaling turns them into a probability (`kgtool.evaluation.calibration`), fitted on valid
triples and negatives. A triple is predicted true if its probability reaches the threshold of its
relation: the threshold with the best accuracy on valid.

The probabilities are calibrated for data like the fit: half of the triples are true, and the false
ones are as hard as the negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import KGDataset, Vocabulary, invert
from kgtool.errors import DataError
from kgtool.evaluation.calibration import (
    Floats,
    Platt,
    calibration_table,
    expected_calibration_error,
    fit_platt,
)
from kgtool.evaluation.likelihood import tail_likelihood
from kgtool.models.scorers import ScoresTails

# The most draws for a negative; the second half of them draws from all entities.
TRIES = 50


def triple_features(
    models: Sequence[ScoresTails], triples: Tensor, num_entities: int, num_relations: int
) -> Floats:
    """The features of triples.

    Args:
        models: score tails.
        triples: `(n, 3)` int64.
        num_entities, num_relations: of the data, inverses not counted.

    Returns:
        `(n, 4 · models)` float64: for each model the score and `log P(t | h, r)`, then the same for
        the inverse triple.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
    """
    columns = [
        tail_likelihood(model, direction, num_entities)
        for model in models
        for direction in (triples, invert(triples, num_relations))
    ]
    return torch.cat(columns, dim=1).numpy()


def sample_negatives(dataset: KGDataset, split: str, seed: int = 0) -> Tensor:
    """A negative for each triple of a split, with its head or its tail replaced at random.

    The new entity occurs at this side of the relation in train, as in Socher et al. (2013), so that
    its type does not reveal the negative. The negative is not a known triple: of train and valid,
    and of test too for the split test.

    Returns:
        `(m, 3)` int64, m <= n: a triple is left out if no negative was drawn for it.
    """
    generator = torch.Generator().manual_seed(seed)
    positives = dataset.split(split)
    n, num_relations = dataset.num_entities, dataset.num_relations

    def key(triples: Tensor) -> Tensor:
        return (triples[:, 0] * num_relations + triples[:, 1]) * n + triples[:, 2]

    known = key(torch.cat([dataset.filter_triples(split), positives]))
    place = 2 * torch.randint(2, (len(positives),), generator=generator)  # 0 head, 2 tail
    negatives = positives.clone()
    left = torch.arange(len(positives))
    # The train triples by relation; a random one provides the new entity.
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
    drawn_all = torch.ones(len(positives), dtype=torch.bool)
    drawn_all[left] = False  # nearly every entity makes a known triple there
    return negatives[drawn_all]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier fitted on valid.

    Attributes:
        platt: maps features to a probability.
        thresholds: `(R,)` float64; 0.5 for a relation that does not occur in valid.
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
        holds: `(n,)`, whether a triple is true.
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
    """The threshold with the best accuracy; of several, the one nearest to 0.5.

    A triple at or above the threshold is predicted true. Between two probabilities the threshold
    lies in the middle.

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
    """Classification metrics of the triples of a split against negatives.

    Attributes:
        split: the split.
        negatives: `"given"` by the data set, or `"sampled"`.
        metrics: `accuracy`; `f1`, `precision` and `recall` of true triples; `roc_auc`,
            `average_precision`, and `ece`, the expected calibration error.
        calibration: a row per bin of probability, see `kgtool.evaluation.calibration`.
        triples: `(n, 3)` int64, positives and negatives.
        holds, probability, threshold: `(n,)`, for each triple.
    """

    split: str
    negatives: str
    metrics: dict[str, float]
    calibration: pd.DataFrame = field(repr=False)
    triples: Tensor = field(repr=False)
    holds: NDArray[np.bool_] = field(repr=False)
    probability: Floats = field(repr=False)
    threshold: Floats = field(repr=False)

    def predictions(self, vocabulary: Vocabulary) -> pd.DataFrame:
        """A row per triple: labels, whether it is true, probability, threshold, prediction."""
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
    """Classify the triples of a split against negatives.

    The classifier is fitted on valid and its negatives.

    Args:
        models: score tails.
        dataset: the data.
        split: `"valid"` or `"test"`; the metrics on valid itself are too optimistic.
        negatives: split → `(n, 3)` int64 for valid and the split; None to sample one per triple.
        seed: of the samples.

    Raises:
        DataError: if valid or the split has no negatives.
        ScoreError: if a score is NaN or infinite.
        ValueError: if valid or the split has no triples.
    """
    for name in ("valid", split):
        if not len(dataset.split(name)):
            raise ValueError(f"the {name} split holds no triples")

    def labelled(name: str) -> tuple[Tensor, NDArray[np.bool_], Floats]:
        positive = dataset.split(name)
        false = sample_negatives(dataset, name, seed) if negatives is None else negatives[name]
        if not len(false):
            raise DataError(
                f"{dataset.name}: no negative of {name} to classify. Nearly all triples of its "
                f"entities are facts. Remedy: add a file with negatives of {name}."
            )
        triples = torch.cat([positive, false])
        features = triple_features(models, triples, dataset.num_entities, dataset.num_relations)
        return triples, np.arange(len(triples)) < len(positive), features

    triples, holds, features = labelled("valid")
    relation = triples[:, 1].numpy()
    classifier = fit_classifier(features, relation, holds, dataset.num_relations)
    if split != "valid":
        triples, holds, features = labelled(split)
    relation = triples[:, 1].numpy()
    probability = classifier.platt.probability(features, relation)
    threshold = classifier.thresholds[relation]
    table = calibration_table(probability, holds)
    taken = probability >= threshold
    from sklearn import metrics as sklearn  # here: it takes a second to import

    metrics = {
        "accuracy": sklearn.accuracy_score(holds, taken),
        "f1": sklearn.f1_score(holds, taken),
        "precision": sklearn.precision_score(holds, taken, zero_division=0.0),
        "recall": sklearn.recall_score(holds, taken),
        "roc_auc": sklearn.roc_auc_score(holds, probability),
        "average_precision": sklearn.average_precision_score(holds, probability),
        "ece": expected_calibration_error(probability, holds),
    }
    return TripleEvaluation(
        split,
        "sampled" if negatives is None else "given",
        {name: float(value) for name, value in metrics.items()},
        table, triples, holds, probability, threshold,
    )  # fmt: skip
