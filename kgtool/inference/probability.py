"""How likely a new answer is right: Platt scaling of what a model says, fitted on valid.

The model answers questions, `(h, r, ?)` and `(?, r, t)`, that have a missing answer in valid, and
questions that might have one (`kgtool.data.statistics`), each kind weighed by how many of it there
are. An answer is right where valid holds it; one that no split holds counts as wrong, though it may
be a fact that nobody wrote down. So a probability is the chance of a new answer to be a fact where
the graph lacks as many facts as valid holds out. Where it lacks more, more answers are facts; where
it lacks none, none is.

What it is fitted on are the answers' features, see `kgtool.inference.top_k.features`: a score alone
says little across questions, and a likelihood from one end overrates answers to questions that make
no sense, which the other end tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import KGDataset
from kgtool.data.statistics import Expected
from kgtool.errors import RunError
from kgtool.evaluation.calibration import Floats, Platt, expected_calibration_error, fit_platt
from kgtool.evaluation.ranking import ScoresTails
from kgtool.inference.top_k import ASKED_FEATURES, FEATURES, best_answers, features
from kgtool.storage.checkpoint import LARGEST, load_fitted, save_tensors

QUESTIONS = 500  # asked, of either kind
ANSWERS = 10  # of each
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Probability:
    """What was fitted on valid.

    Attributes:
        platt: from features and relation ids, inverses included, to a probability.
        asked: the same from `asked_features` alone, to find what is worth the other question.
        ece: expected calibration error, of questions that a fit had not seen (`FOLDS` folds).
        questions, answers, right: how many it was fitted on.
    """

    platt: Platt
    asked: Platt
    ece: float
    questions: int
    answers: int
    right: int

    def of(self, features: Tensor, relation: Tensor) -> Floats:
        """`(m,)` float64, of features `(m, FEATURES)` and relation ids `(m,)`."""
        return self.platt.probability(features.numpy(), relation.numpy())

    def of_asked(self, features: Tensor, relation: Tensor) -> Floats:
        """`(m,)` float64, of features `(m, ASKED_FEATURES)` and relation ids `(m,)`."""
        return self.asked.probability(features.numpy(), relation.numpy())

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        tensors = {
            f"{which}.{part}": torch.from_numpy(getattr(getattr(self, which), part))
            for which in _FITS
            for part in _PARTS
        }
        save_tensors(path, tensors, {name: getattr(self, name) for name in _NUMBERS})

    @classmethod
    def load(cls, path: Path, num_relations: int) -> Probability:
        """Read what `save` wrote.

        Raises:
            RunError: when the file is damaged, or was fitted for other relations.
        """
        like = {
            f"{which}.{part}": torch.empty(size, dtype=torch.double)
            for which, k in _FITS.items()
            for part, size in zip(_PARTS, (k, k, k + 2 * num_relations * (k + 1), 1), strict=True)
        }
        tensors, state = load_fitted(path, like)
        spread = torch.cat([tensors[f"{which}.spread"] for which in _FITS])
        told = state.keys() == set(_NUMBERS) and all(
            type(n) in (int, float) for n in state.values()
        )
        if not told or not bool((spread > 1 / LARGEST).all()):
            raise RunError(f"{path}: not this run's. Remedy: remove it, it is made again.")
        platt, asked = (
            Platt(*(tensors[f"{which}.{part}"].numpy() for part in _PARTS)) for which in _FITS
        )
        return cls(platt, asked, **state)


_FITS = {"platt": FEATURES, "asked": ASKED_FEATURES}
_PARTS = ("mean", "spread", "weights", "bias")
_NUMBERS = ("ece", "questions", "answers", "right")


def fit_probability(model: ScoresTails, dataset: KGDataset, seed: int = 0) -> Probability | None:
    """Fit on some questions.

    Args:
        model: gives the scores.
        dataset: train and test are facts that are known; valid holds what is missing.
        seed: draws questions and folds.

    Returns:
        None where valid holds too little: none of the answers is right, or none wrong.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations

    known = answer_index(torch.cat([dataset.train, dataset.test]), num_relations)
    missing = answer_index(dataset.valid, num_relations)
    generator = torch.Generator().manual_seed(seed)
    hr, weight_of = _questions(dataset, missing, generator)
    found = best_answers(model, hr, known, n, ANSWERS)
    triples = found.triples(hr)
    holds = missing.contains(triples).numpy()
    if not holds.any() or holds.all():
        return None
    weight = weight_of[found.query].numpy()
    x = features(model, triples, found.said, known, n, num_relations).numpy()
    relation = triples[:, 1].numpy()

    def fit(rows: NDArray[np.bool_] | slice, columns: int = FEATURES) -> Platt:
        return fit_platt(
            x[rows, :columns], relation[rows], holds[rows], 2 * num_relations, weight[rows]
        )

    fold = torch.randint(FOLDS, (len(hr),), generator=generator)[found.query].numpy()
    unseen = np.full(len(x), np.average(holds, weights=weight))
    for i in range(FOLDS):
        others, own = fold != i, fold == i
        if own.any() and len(np.unique(holds[others])) == 2:
            unseen[own] = fit(others).probability(x[own], relation[own])
    return Probability(
        fit(slice(None)),
        fit(slice(None), ASKED_FEATURES),
        expected_calibration_error(unseen, holds, weight),
        len(hr), len(x), int(holds.sum()),
    )  # fmt: skip


def _questions(
    dataset: KGDataset, missing: AnswerIndex, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`(q, 2)` queries of both kinds, and `(q,)` float64: how many like it there are of each.

    In units in which the mean is 1.
    """
    n = dataset.num_entities
    entity = torch.randperm(n, generator=generator)[:QUESTIONS]
    might, _ = Expected(dataset.train, n, dataset.num_relations).questions(entity)
    might = might[missing.rows(might) < 0]
    kinds = ((missing.hr, 1.0), (might, n / len(entity)))
    asked, weights = [], []
    for hr, each in kinds:
        drawn = torch.randperm(len(hr), generator=generator)[:QUESTIONS]
        asked.append(hr[drawn])
        share = each * len(hr) / max(len(drawn), 1)
        weights.append(torch.full((len(drawn),), share, dtype=torch.double))
    weight = torch.cat(weights)
    return torch.cat(asked), weight / weight.mean()
