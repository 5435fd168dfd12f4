"""The loss of the conditional model, compared with a softmax over the scores of all entities."""

from __future__ import annotations

import pytest
import torch

from kgtool.config import AllPathsConfig
from kgtool.data.answer_index import answer_index
from kgtool.models.all_paths import Parts
from kgtool.models.conditional import Conditions
from kgtool.training.objectives import ConditionalObjective
from tests.support.graphs import random_dataset
from tests.unit.models.test_conditional import make_model


@pytest.mark.parametrize("parts", [None, Parts(whole=0, nearest=3)])
def test_the_loss_is_a_softmax_over_all_entities(parts: Parts | None) -> None:
    torch.manual_seed(0)
    dataset = random_dataset(3, num_entities=40, num_train=160)
    model = make_model(dataset)
    model.decoder.parts = parts
    answers = answer_index(dataset.train, dataset.num_relations)
    settings = AllPathsConfig(batch_size=12, max_targets=4, remove_target_edges="edge")
    objective = ConditionalObjective(settings, model, answers)
    batches = objective.parts(objective.order(0, 0)[:12])
    shared = objective.shared(batches)
    conditions = Conditions(*shared)
    outside = 0
    for batch in batches:
        found, count = objective.loss(batch, *shared)
        assert count == len(batch.tail)
        assert batch.context is not None
        reached = model.decoder.reach(batch.graph, batch.head, batch.excluded_edges)
        features = model.decoder.features(model.decoder(reached, conditions, batch.context))
        begins = [0, *torch.tensor(reached.rows_of_heads()).cumsum(0).tolist()]
        entities = reached.entities()
        losses = []
        for place, relation, tail in zip(
            batch.position.tolist(), batch.relation.tolist(), batch.tail.tolist(), strict=True
        ):
            query = conditions.queries[batch.context[place]]
            own = slice(begins[place], begins[place + 1])
            scores = (features[-1] @ query).repeat(40)
            scores = scores.index_put((entities[own],), features[own] @ query)
            head = int(batch.head[place])
            known = dataset.train.tolist()
            for other in set(range(40)) - {tail}:
                triple = [head, relation, other]
                if relation >= dataset.num_relations:
                    triple = [other, relation - dataset.num_relations, head]
                if triple in known:
                    scores[other] = -torch.inf
            losses.append(torch.logsumexp(scores, 0) - scores[tail])
            outside += tail not in entities[own].tolist()
        torch.testing.assert_close(found, torch.stack(losses).sum())
    assert outside or not parts  # some targets are not in the part of their query
