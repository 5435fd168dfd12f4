"""Probabilities of completions: the weights of the fit, and the correction by valid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.inference import probability as probabilities
from kgtool.inference.completion import complete
from kgtool.inference.probability import fit_probability
from kgtool.inference.top_k import best_answers, features
from tests.support.runs import Table, in_memory


def bumps(num_entities: int, seed: int = 0) -> KGDataset:
    """A graph in which every entity has one tail in train; valid has another tail for a few."""
    draw = torch.randperm(num_entities, generator=torch.Generator().manual_seed(seed)).tolist()
    train = [(i, 0, (i + 1) % num_entities) for i in range(num_entities)]
    held_out = [(i, 0, (i + 2) % num_entities) for i in draw[: num_entities // 25]]
    half = len(held_out) // 2
    return in_memory(train, held_out[:half], held_out[half:], num_entities)


def test_a_fit_weighs_queries_by_their_number(monkeypatch):
    # The model gives each query the same confident answer, and one answer in fifty is in valid. The
    # fit draws as many queries with an answer in valid as others.
    monkeypatch.setattr(probabilities, "QUESTIONS", 40)
    n = 500
    dataset = bumps(n)
    model = Table(torch.rand(n, 2, n, generator=torch.Generator().manual_seed(1)))
    i = torch.arange(n)
    model.scores[i, 0, (i + 2) % n] += 8
    model.scores[(i + 2) % n, 1, i] += 8
    fitted = fit_probability(model, dataset, missing=len(dataset.valid))
    assert fitted is not None
    hr = with_inverses(dataset.train, 1)[:, :2]
    known = answer_index(torch.cat([dataset.train, dataset.test]), 1)
    best = best_answers(model, hr, known, n, 1)
    triples = best.triples(hr)
    x = features(model, triples, best.scores, known, num_entities=n, num_relations=1)
    # As many facts as valid and test hold are assumed to be missing too.
    share = (len(dataset.valid) + fitted.missing) / n
    assert share / 2 < fitted.of(x, triples[:, 1]).mean() < 2 * share


def test_valid_corrects_a_completion():
    # True triples score a little higher than others, and valid has half of them.
    n = 80
    generator = torch.Generator().manual_seed(2)
    train = [(i, 0, (i + 1) % n) for i in range(n)]
    hidden = [(i, 0, (i + 2) % n) for i in range(n)]
    dataset = in_memory(train, hidden[::2], [], n)
    model = Table(torch.randn(n, 2, n, generator=generator))
    for h, r, t in with_inverses(torch.tensor(train + hidden), 1).tolist():
        model.scores[h, r, t] += 2
    fitted = fit_probability(model, dataset)
    assert fitted is not None
    # Twenty times the odds, and the same order: what valid confirms gives the same probabilities.
    sure = replace(fitted, platt=replace(fitted.platt, bias=fitted.platt.bias + np.log(20)))
    found, other = (complete(model, dataset, each, 40) for each in (fitted, sure))
    assert torch.equal(found.triples, other.triples)
    assert np.allclose(found.probability, other.probability, atol=0.02)
    assert found.probability.max() - found.probability.min() > 0.1
    assert 0.1 < found.probability.mean() < 0.8
