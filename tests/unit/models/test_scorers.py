"""The contract of scorers: one `score_t` is enough for all that ranking and prediction ask."""

from __future__ import annotations

import pytest
import torch

from kgtool.config import Config
from kgtool.data.answer_index import answer_index
from kgtool.data.statistics import Expected
from kgtool.distributed.sharding import Shards
from kgtool.evaluation.candidates import Sampled, Types
from kgtool.evaluation.ensemble import Ensemble
from kgtool.evaluation.likelihood import tail_likelihood
from kgtool.evaluation.ranking import rank_scores, rank_tails
from kgtool.inference.top_k import FEATURES, best_answers, features
from kgtool.models.factory import build_model
from kgtool.models.model import OnePathModel
from kgtool.models.scorers import ModelScorer, PassScorer, Scorer, SparseScores, as_scorer
from tests.support.runs import Table, all_paths_config, combined_config, ring, tiny_config

CONFIGS: dict[str, Config] = {
    "one": tiny_config(),
    "transe": tiny_config(cell="transe"),
    "rotate": tiny_config(cell="rotate", norm=1),
    "complex": tiny_config(cell="complex"),
    "tucker": tiny_config(cell="tucker"),
    "all": all_paths_config(),
    "fed": all_paths_config(encoder={}),
    "budget": all_paths_config(node_budget=8),
    "both": combined_config(),
}
KINDS = [*CONFIGS, "sharded", "sharded rotate", "table", "sum", "sum of passes"]


def model_scorer(kind: str) -> ModelScorer:
    torch.manual_seed(3)
    return build_model(CONFIGS[kind], ring()).scorer()


def scorers() -> dict[str, Scorer]:
    table = as_scorer(Table(torch.rand(24, 6, 24)))
    torch.manual_seed(3)
    one, rotate = (build_model(CONFIGS[kind], ring()) for kind in ("one", "rotate"))
    assert isinstance(one, OnePathModel)
    assert isinstance(rotate, OnePathModel)
    shards = Shards.of_owner(torch.zeros(24, dtype=torch.long))
    found: dict[str, Scorer] = {kind: model_scorer(kind) for kind in CONFIGS}
    return found | {
        "sharded": one.sharded_scorer(shards),
        "sharded rotate": rotate.sharded_scorer(shards),
        "table": table,
        "sum": Ensemble(found["one"], table, 0.3, {}),
        "sum of passes": Ensemble(found["all"], found["one"], 0.3, {}),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_to_score_give_the_same_scores(kind):
    scorer = scorers()[kind]
    generator = torch.Generator().manual_seed(5)
    hrt = torch.stack([torch.randint(n, (300,), generator=generator) for n in (24, 6, 24)], dim=1)
    scores = scorer.score_t(hrt[:, :2])
    each = torch.arange(300)
    torch.testing.assert_close(scorer.score_hrt(hrt), scores[each, hrt[:, 2]])
    relation = torch.tensor([5, 0, 3])
    expected = torch.stack(
        [
            scorer.score_hrt(torch.stack([hrt[:, 0], r.expand(300), hrt[:, 2]], dim=1))
            for r in relation
        ],
        dim=1,
    )
    torch.testing.assert_close(scorer.score_r(hrt[:, ::2], relation), expected)
    for entities in (slice(3, 9), torch.tensor([7, 2])):
        torch.testing.assert_close(scorer.block_scores(hrt[:, :2])(entities), scores[:, entities])


def test_a_scorer_stays_itself():
    scorer = model_scorer("one")
    assert as_scorer(scorer) is scorer


def test_what_kinds_of_model_can_do():
    one, paths = model_scorer("one"), model_scorer("all")
    assert (one.in_blocks, one.has_states, one.scores_paths, one.passes) == (True, True, True, None)
    assert (paths.in_blocks, paths.has_states, paths.scores_paths) == (False, False, False)
    assert paths.passes is paths  # type: ignore[comparison-overlap]
    for states in (paths.entity_states, paths.relation_states):
        with pytest.raises(NotImplementedError):
            states()
    with pytest.raises(NotImplementedError):
        paths.score_paths(torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([2]))
    with pytest.raises(NotImplementedError):
        one.sparse_scores(torch.tensor([[0, 0]]))


@pytest.mark.parametrize("kind", ["one", "both"])
def test_states_of_some_entities_are_rows_of_all(kind):
    scorer = model_scorer(kind)
    whole = scorer.entity_states()
    assert whole.shape[0] == 24
    torch.testing.assert_close(scorer.entity_states(torch.tensor([4, 9])), whole[[4, 9]])
    assert scorer.relation_states().shape[0] == 6


@pytest.mark.parametrize("layers", [0, 1])
def test_states_are_numbers_without_a_gradient(layers):
    # Without layers, the states are the embeddings, which are parameters.
    config = tiny_config(encoder={"layers": layers})
    states = build_model(config, ring()).scorer()
    assert isinstance(states, ModelScorer)
    assert not states.entity_states().requires_grad
    assert not states.relation_states().requires_grad


def test_sparse_scores_of_listed_entities_and_of_others():
    scores = SparseScores.of_queries(
        [torch.tensor([5, 2]), torch.empty(0, dtype=torch.long), torch.tensor([7])],
        [torch.tensor([0.5, 0.2]), torch.empty(0), torch.tensor([0.7])],
        list(torch.tensor([-1.0, -2.0, -3.0])),
    )
    asked = torch.cartesian_prod(torch.arange(3), torch.arange(10)).flip(0)
    listed = {(0, 5): 0.5, (0, 2): 0.2, (2, 7): 0.7}
    expected = [listed.get((q, e), -1.0 - q) for q, e in asked.tolist()]
    torch.testing.assert_close(scores.of(*asked.T), torch.tensor(expected))
    none = torch.empty(0, dtype=torch.long)
    assert scores.of(none, none).shape == (0,)
    bare = SparseScores.of_queries([none], [torch.empty(0)], [torch.tensor(4.0)])
    assert bare.of(torch.tensor([0, 0]), torch.tensor([3, 1])).tolist() == [4.0, 4.0]


@pytest.mark.parametrize("kind", KINDS)
def test_no_queries_have_no_scores(kind):
    scorer = scorers()[kind]
    none = torch.empty(0, 3, dtype=torch.long)
    hr, relation = none[:, :2], torch.arange(3)
    assert scorer.score_t(hr).shape == (0, 24)
    assert scorer.score_hrt(none).shape == (0,)
    assert scorer.score_r(hr, relation).shape == (0, 3)
    assert scorer.score_r(torch.tensor([[1, 2], [3, 4]]), relation[:0]).shape == (2, 0)
    for entities in (slice(None), torch.tensor([7, 2])):
        assert scorer.block_scores(hr)(entities).shape == (0, len(torch.arange(24)[entities]))
    if scorer.is_sparse:
        sparse = scorer.sparse_scores(hr)
        assert (sparse.first.tolist(), len(sparse.entity), len(sparse.rest)) == ([0], 0, 0)
    if isinstance(scorer, ModelScorer) and scorer.has_states:
        assert scorer.entity_states(none[:, 0]).shape == (0, scorer.relation_states().shape[1])
        if scorer.scores_paths:
            assert scorer.score_paths(none[:, 0], hr, none[:, 0]).shape == (0, 24)
    if isinstance(scorer, PassScorer):
        assert len(scorer.features(hr)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_queries_have_no_ranks_and_no_answers(kind):
    scorer, dataset = scorers()[kind], ring()
    none = torch.empty(0, 3, dtype=torch.long)
    known = answer_index(dataset.train, dataset.num_relations)
    for candidates in (None, Sampled(5), Types.of(dataset)):
        found = rank_tails(scorer, none, known, 24, candidates=candidates)
        assert len(found.filtered.better) == len(found.raw.candidates) == len(found.score) == 0
    if scorer.shards is None:
        mixed = rank_scores(
            [scorer, scorer], lambda two: [two[0], two[1], two[0] + two[1]], none, known, 24
        )
        assert [len(ranking.score) for ranking in mixed] == [0, 0, 0]
    assert tail_likelihood(scorer, none, 24).shape == (0, 2)
    answers = best_answers(scorer, none[:, :2], known, 24, 3)
    assert answers.scores.shape == (0, 3)
    x = features(scorer, none, answers.scores, known, num_entities=24, num_relations=3)
    assert x.shape == (0, FEATURES)


def test_no_entities_have_no_expectations():
    expected = Expected(ring().train, 24, 3)
    hr, share = expected.questions(torch.empty(0, dtype=torch.long))
    assert (hr.shape, share.shape) == ((0, 2), (0,))
