"""The chance that any relation holds: of random pairs and of pairs with a missing fact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.errors import RunError
from kgtool.evaluation.tasks.relation_prediction import fit_relations
from kgtool.inference.pairs import PairChance, fit_pairs, load_pairs, save_pairs
from kgtool.inference.probability import fit_probability
from kgtool.models.scorers import RowScorer
from tests.support.runs import Table, ring
from tests.unit.inference.test_top_k import oracle


def fitted(dataset: KGDataset, model: Table, missing: int | None = None) -> PairChance:
    probability = fit_probability(model, dataset, missing)
    assert probability is not None
    relations = fit_relations([RowScorer(model)], dataset)
    return fit_pairs(model, relations, probability, dataset)


def test_random_pairs_have_no_relation_and_held_out_ones_have_theirs():
    whole = ring()
    data = replace(whole, test=whole.test[:0])
    model = oracle(whole, whole.train, whole.valid, whole.test)
    chance = fitted(data, model)
    known = answer_index(data.filter_triples("test"), data.num_relations)
    n = data.num_entities
    every = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    scores, probability = chance.of(every, data, known)
    assert scores.shape == probability.shape == (n * n, data.num_relations)
    # As many as test holds, not one per pair.
    assert float(probability.sum()) == pytest.approx(len(whole.test), rel=0.5)
    held = {(h, t) for h, _, t in whole.test.tolist()}
    is_held = torch.tensor([(h, t) in held for h, t in every.tolist()])
    assert float(probability[is_held].sum(1).mean()) > 0.5
    assert float(probability[~is_held].sum(1).mean()) < 0.1
    right = probability[whole.test[:, 0] * n + whole.test[:, 2], whole.test[:, 1]]
    assert float(right.mean()) > 0.5
    # Known facts are not new.
    facts = data.train
    assert not probability[facts[:, 0] * n + facts[:, 2], facts[:, 1]].any()
    more = fitted(data, model, 20 * len(whole.test)).of(every, data, known)[1]
    assert float(more.sum()) > 1.2 * float(probability.sum())


def test_the_fit_is_written_and_read(tmp_path):
    data = ring()
    chance = fitted(data, oracle(data, data.train, data.valid))
    save_pairs(chance, tmp_path / "pairs.safetensors")
    assert np.array_equal(load_pairs(tmp_path / "pairs.safetensors"), chance.fitted)
    (tmp_path / "pairs.safetensors").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(RunError, match="damaged"):
        load_pairs(tmp_path / "pairs.safetensors")
