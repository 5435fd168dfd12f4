"""Slots that exclude each other and self loops, on small graphs made by hand."""

from __future__ import annotations

import torch

from kgtool.inference.plausible import ENOUGH, EXPECTED, Plausible

# Men 0 to 59 and women 60 to 119: man i is the husband of woman 60 + i, and each has a friend.
HUSBAND, MOTHER, FRIEND = range(3)
MEN, WOMEN = range(60), range(60, 120)
FACTS = [
    *((i, HUSBAND, 60 + i) for i in range(40)),
    *((60 + i, MOTHER, (i + 1) % 60) for i in range(40)),
    *((i, FRIEND, 60 + (i + 2) % 60) for i in range(40)),
    *((60 + i, FRIEND, (i + 3) % 60) for i in range(40)),
]


def plausible(facts: list[tuple[int, int, int]] = FACTS, entities: int = 120) -> Plausible:
    return Plausible.of(torch.tensor(facts), entities, 3)


def test_an_entity_does_not_get_a_slot_that_its_own_slots_exclude():
    found = plausible()
    # (?, husband of, 60): tails of the inverse. Mothers and wives are out, also as (r, ?).
    allowed = found.of_queries(torch.tensor([[60, HUSBAND + 3]]))[0]
    wives_and_mothers = {t for _, r, t in FACTS if r == HUSBAND} | {
        h for h, r, _ in FACTS if r == MOTHER
    }
    assert not allowed[sorted(wives_and_mothers)].any()
    husbands = [h for h, r, _ in FACTS if r == HUSBAND]
    assert allowed[husbands].all()
    # A man who is nobody's husband yet, and a woman of whom too little is known.
    unmarried = [i for i in MEN if i not in husbands]
    assert allowed[unmarried].all()
    assert found.of_relations(torch.tensor([FRIEND])).all()


def test_triples_and_queries_have_the_same_answers():
    found = plausible()
    every = torch.cartesian_prod(torch.arange(0, 120, 7), torch.arange(3), torch.arange(120))
    allowed = found.of_queries(every[:, :2])[torch.arange(len(every)), every[:, 2]]
    back = torch.stack([every[:, 2], every[:, 1] + 3], dim=1)
    backward = found.of_queries(back)[torch.arange(len(every)), every[:, 0]]
    assert found.of_triples(every).tolist() == (allowed & backward).tolist()
    assert 0.1 < found.of_triples(every).float().mean() < 0.9


def test_no_fact_is_implausible():
    facts = torch.tensor(FACTS)
    assert plausible().of_triples(facts).all()


def test_few_facts_exclude_nothing():
    few = [fact for fact in FACTS if fact[0] % 60 < EXPECTED]
    assert not plausible(few).excludes.nnz


def test_one_entity_with_both_slots_lifts_the_exclusion():
    both = [*FACTS, (60, HUSBAND, 61)]
    assert plausible().excludes[HUSBAND, MOTHER]
    assert not plausible(both).excludes[HUSBAND, MOTHER]


def test_self_loops():
    assert not plausible().loops.any()
    own = torch.tensor([[5, FRIEND], [5, FRIEND + 3]])
    assert not plausible().of_queries(own)[:, 5].any()
    loops = plausible([*FACTS, (5, FRIEND, 5)]).loops.tolist()
    # With loops in the graph, a relation of few triples may have some, too.
    assert loops == [True] * 6
    many = [(i, MOTHER, i + 1) for i in range(ENOUGH)]
    assert plausible([*many, (5, FRIEND, 5)]).loops.tolist() == [True, False, True] * 2
    assert plausible([(5, FRIEND, 5)]).of_triples(torch.tensor([[5, FRIEND, 5]])).all()
