"""The contract of scorers: one `score_t` is enough for all that ranking and prediction ask."""

from __future__ import annotations

import pytest
import torch

from kgtool.evaluation.ensemble import Ensemble
from kgtool.models.factory import build_model
from kgtool.models.scorers import ModelScorer, Scorer, as_scorer
from tests.support.runs import Table, all_paths_config, ring, tiny_config


def model_scorer(kind: str) -> ModelScorer:
    torch.manual_seed(3)
    return build_model(all_paths_config() if kind == "all" else tiny_config(), ring()).scorer()


def scorers() -> dict[str, Scorer]:
    table = as_scorer(Table(torch.rand(24, 6, 24)))
    found: dict[str, Scorer] = {kind: model_scorer(kind) for kind in ("one", "all")}
    return found | {"table": table, "sum": Ensemble(found["one"], table, 0.3, {})}


@pytest.mark.parametrize("kind", ["one", "all", "table", "sum"])
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
    assert paths.passes is paths
    with pytest.raises(NotImplementedError):
        paths.score_paths(torch.tensor([0]), torch.tensor([[0, 1]]), torch.tensor([2]))
    with pytest.raises(NotImplementedError):
        one.sparse_scores(torch.tensor([[0, 0]]))


@pytest.mark.parametrize("kind", ["one", "all"])
def test_states_of_some_entities_are_rows_of_all(kind):
    scorer = model_scorer(kind)
    whole = scorer.entity_states()
    assert whole.shape[0] == 24
    torch.testing.assert_close(scorer.entity_states(torch.tensor([4, 9])), whole[[4, 9]])
    assert scorer.relation_states().shape[0] == 6
