"""The known facts of an entity."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kgtool.data.answer_index import AnswerIndex


def facts_of(
    entity: int, known_in: Mapping[str, AnswerIndex], num_relations: int
) -> dict[int, dict[int, str]]:
    """The known facts of an entity: relation id → entity at the other end → split.

    The relation id `r + num_relations` has the facts `(other, r, entity)`. Relations with most
    facts come first. A fact of several splits has the first one. A self loop is in both directions.

    Args:
        entity: the entity.
        known_in: the answers of each split, inverses included, see `answer_index`.
        num_relations: inverses not counted.
    """
    relation = torch.arange(2 * num_relations)
    hr = torch.stack([torch.full_like(relation, entity), relation], dim=1)
    facts: dict[int, dict[int, str]] = {}
    for split, index in known_in.items():
        place, slot = index.expand(index.rows(hr))
        for r, other in zip(place.tolist(), index.tails[slot].tolist(), strict=True):
            facts.setdefault(r, {}).setdefault(other, split)
    return dict(sorted(facts.items(), key=lambda item: (-len(item[1]), item[0])))
