"""The probability that a new answer is true: Platt scaling of a model's scores, fitted on valid.

The model answers queries `(h, r, ?)` and `(?, r, t)` of two kinds: queries with a missing answer in
valid, and queries that may have one (`kgtool.data.statistics`). Each kind is weighted by its
frequency. Valid has some of the facts that train and test lack. The graph lacks others too, and no
data show how many: their number m is an assumption. If valid, with v triples, is a random sample of
all these facts, it marks each with the chance v / (v + m). The fit (`fit_marked`) uses this chance.
An answer that valid does not have is true with the odds of the fit times m / (v + m).

The penalty of the fit draws the weights to 0, and those of each relation most, so that the fit is
too cautious where a relation has few answers and the model is sure of them. Cross-validation
measures this: the log odds f of answers to held-out queries become a f + b, with the a and b of the
largest likelihood, and so does the fit on all queries. The order of answers stays.

The features are those of `kgtool.inference.top_k.features`. Scores are not comparable between
queries, and the likelihood from one end is too high for queries that make no sense. The features of
the inverse query correct this. A model that takes a pass for each query does without them: they
would take as many passes as there are answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index, answers_at_heads
from kgtool.data.dataset import KGDataset, invert
from kgtool.data.statistics import Expected
from kgtool.errors import RunError
from kgtool.evaluation.calibration import (
    Floats,
    Platt,
    expected_calibration_error,
    fit_marked,
    fit_platt,
)
from kgtool.inference.top_k import FEATURES, FORWARD_FEATURES, best_answers, features
from kgtool.models.scorers import ScoresTails, as_scorer
from kgtool.storage.checkpoint import LARGEST, load_fitted, save_tensors

QUESTIONS = 500  # queries of each kind
# The same for a model that takes a pass for each query, and not for each head: the passes of a kind
# read this many edges in a layer, if that makes no fewer and no more queries than these.
READ_EDGES, FEWEST, FEW = 10_000_000, 25, 100
ANSWERS = 10  # answers per query
FOLDS = 5
LEAST_SLOPE = 0.1  # the order of the answers stays, also where the scores say nothing


@dataclass(frozen=True, eq=False)
class Probability:
    """A calibration fitted on valid.

    Attributes:
        platt: maps features and relation ids, inverses included, to a probability.
        asked: the same from `forward_features` only, to select answers for the inverse query.
        missing: number of facts that all splits lack, as assumed.
        held_out: number of valid triples.
        ece: expected calibration error of the answers in valid, by cross-validation over queries
            (`FOLDS` folds).
        questions, answers, right: number of queries, answers, and answers in valid of the fit.
    """

    platt: Platt
    asked: Platt
    missing: int
    held_out: int
    ece: float
    questions: int
    answers: int
    right: int

    @property
    def marked(self) -> float:
        """The share of the facts outside train and test that valid has, as assumed."""
        return self.held_out / (self.held_out + self.missing)

    def of(self, features: Tensor, relation: Tensor) -> Floats:
        """`(m,)` float64 probabilities of answers that are in no split.

        Args:
            features: `(m, FEATURES)`.
            relation: `(m,)` ids.
        """
        return self.platt.probability(features.numpy(), relation.numpy(), 1 - self.marked)

    def log_odds(self, features: Tensor, relation: Tensor) -> Floats:
        """`(m,)` float64, the log odds of the probabilities of `of`."""
        odds = self.platt.log_odds(features.numpy(), relation.numpy())
        return odds + np.log1p(-self.marked)

    def of_asked(self, features: Tensor, relation: Tensor) -> Floats:
        """The same from features `(m, FORWARD_FEATURES)`."""
        return self.asked.probability(features.numpy(), relation.numpy(), 1 - self.marked)

    def save(self, path: Path) -> None:
        """Write the fit to a file, completely or not at all."""
        tensors = {
            f"{which}.{part}": torch.from_numpy(getattr(getattr(self, which), part))
            for which in _FITS
            for part in _PARTS
        }
        save_tensors(path, tensors, {name: getattr(self, name) for name in _NUMBERS})

    @classmethod
    def load(cls, path: Path, num_relations: int) -> Probability:
        """Read a fit from the file of `save`.

        Raises:
            RunError: if the file is damaged, or belongs to other relations.
        """
        like = {
            f"{which}.{part}": torch.empty(size, dtype=torch.double)
            for which, k in _FITS.items()
            for part, size in zip(_PARTS, (k, k, k + 2 * num_relations * (k + 1), 1), strict=True)
        }
        tensors, state = load_fitted(path, like)
        spread = torch.cat([tensors[f"{which}.spread"] for which in _FITS])
        complete = state.keys() == set(_NUMBERS) and all(
            type(n) in (int, float) for n in state.values()
        )
        counts = complete and state["missing"] >= 1 and state["held_out"] >= 1
        if not counts or not bool((spread > 1 / LARGEST).all()):
            raise RunError(
                f"{path}: does not belong to this run. Remedy: remove it; it is made again."
            )
        platt, asked = (
            Platt(*(tensors[f"{which}.{part}"].numpy() for part in _PARTS)) for which in _FITS
        )
        return cls(platt, asked, **state)


_FITS = {"platt": FEATURES, "asked": FORWARD_FEATURES}
_PARTS = ("mean", "spread", "weights", "bias")
_NUMBERS = ("missing", "held_out", "ece", "questions", "answers", "right")


def as_many_as_held_out(dataset: KGDataset) -> int:
    """The default of the facts that a graph is assumed to lack: as many as valid and test hold."""
    return len(dataset.valid) + len(dataset.test)


def fit_probability(
    model: ScoresTails,
    dataset: KGDataset,
    missing: int | None = None,
    seed: int = 0,
) -> Probability | None:
    """Fit the calibration on a sample of queries.

    Args:
        model: scores tails.
        dataset: train and test are known facts; valid has some of the facts that they lack.
        missing: number of facts that all splits lack, at least 1; by default
            `as_many_as_held_out`.
        seed: of the queries and folds.

    Returns:
        None if valid is too small: no answer is true, or none is false.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations
    facts = torch.cat([dataset.train, dataset.test])
    held_out = answer_index(dataset.valid, num_relations)
    missing = as_many_as_held_out(dataset) if missing is None else missing
    marked = len(dataset.valid) / max(len(dataset.valid) + missing, 1)
    generator = torch.Generator().manual_seed(seed)
    count = QUESTIONS
    if as_scorer(model).one_query_a_pass:
        count = min(max(READ_EDGES // max(2 * len(dataset.train), 1), FEWEST), FEW)
    hr, weight_of = _questions(dataset, held_out, generator, count)
    answers = best_answers(model, hr, answers_at_heads(hr, facts, num_relations), n, ANSWERS)
    triples = answers.triples(hr)
    holds = held_out.contains(triples).numpy()
    if not holds.any() or holds.all():
        return None
    weight = weight_of[answers.query].numpy()
    both_ends = torch.cat([triples, invert(triples, num_relations)])
    known = answers_at_heads(both_ends, facts, num_relations)
    x = features(
        model, triples, answers.scores, known, num_entities=n, num_relations=num_relations
    ).numpy()
    relation = triples[:, 1].numpy()

    def fit(rows: NDArray[np.bool_] | slice, columns: int = FEATURES) -> Platt:
        return fit_platt(
            x[rows, :columns], relation[rows], holds[rows], 2 * num_relations, weight[rows],
            marked=marked,
        )  # fmt: skip

    fold = torch.randint(FOLDS, (len(hr),), generator=generator)[answers.query].numpy()
    unseen = np.full(len(x), np.nan)  # the log odds of a fit on the other folds
    for i in range(FOLDS):
        train, own = fold != i, fold == i
        if own.any() and len(np.unique(holds[train])) == 2:
            unseen[own] = fit(train).log_odds(x[own], relation[own])
    seen = np.isnan(unseen)
    slope, shift = _sharpness(unseen[~seen], holds[~seen], weight[~seen], marked)
    probability = marked * expit(slope * unseen + shift)
    probability[seen] = np.average(holds, weights=weight)
    return Probability(
        fit(slice(None)).sharpened(slope, shift),
        fit(slice(None), FORWARD_FEATURES),
        missing, len(dataset.valid),
        expected_calibration_error(probability, holds, weight),
        len(hr), len(x), int(holds.sum()),
    )  # fmt: skip


def _sharpness(
    unseen: Floats, holds: NDArray[np.bool_], weight: Floats, marked: float
) -> tuple[float, float]:
    """The slope and the shift of the log odds that fit best, from those of held-out queries.

    Args:
        unseen: `(n,)`, the log odds of answers that the fit has not seen.
        holds, weight, marked: as for `fit_marked`.
    """
    if len(np.unique(holds)) < 2:
        return 1.0, 0.0
    slope, shift = fit_marked(
        unseen[:, None], holds, marked, weight, toward=1.0, bias_penalty=1.0
    )  # fmt: skip
    return max(float(slope[0]), LEAST_SLOPE), float(shift[0])


def _questions(
    dataset: KGDataset, held_out: AnswerIndex, generator: torch.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """`(q, 2)` queries of both kinds, and their weights `(q,)` float64, with mean 1."""
    n = dataset.num_entities
    entity = torch.randperm(n, generator=generator)[:count]
    might, _ = Expected(dataset.train, n, dataset.num_relations).questions(entity)
    might = might[held_out.rows(might) < 0]
    kinds = ((held_out.hr, 1.0), (might, n / len(entity)))
    queries, weights = [], []
    for hr, each in kinds:
        drawn = torch.randperm(len(hr), generator=generator)[:count]
        queries.append(hr[drawn])
        share = each * len(hr) / max(len(drawn), 1)
        weights.append(torch.full((len(drawn),), share, dtype=torch.double))
    weight = torch.cat(weights)
    return torch.cat(queries), weight / weight.mean()
