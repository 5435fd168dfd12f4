"""Near-duplicate relations: detection, compared with loops; removal; the load report."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.data.leakage import Overlap, near_duplicates, redundant
from kgtool.data.loaders import load_with_report
from kgtool.data.loaders.report import LoadReport
from tests.support.graphs import Triple, tensor_of

NUM_RELATIONS = 5

# few entities and many relations, so that pairs are shared
triple_sets = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, NUM_RELATIONS - 1), st.integers(0, 2)),
    max_size=40, unique=True,
)  # fmt: skip


def slow_duplicates(triples: Collection[Triple], share: float) -> list[Overlap]:
    """A slow version of `near_duplicates`, with sets of pairs."""
    pairs = {r: {(h, t) for h, s, t in triples if s == r} for r in range(NUM_RELATIONS)}
    back = {r: {(t, h) for h, t in pairs[r] if h != t} for r in pairs}
    found = {}
    for inverse, of_other in ((True, back), (False, pairs)):  # the second replaces the first
        for one in pairs:
            for other in range(one if inverse else one + 1, NUM_RELATIONS):
                both = len(pairs[one] & of_other[other])
                if both and min(both / len(pairs[one]), both / len(pairs[other])) >= share:
                    shares = both / len(pairs[one]), both / len(pairs[other])
                    found[one, other] = Overlap(one, other, inverse, *shares, both)
    return sorted(found.values(), key=lambda o: (-o.pairs, o.relation, o.other))


@settings(max_examples=300, deadline=None)
@given(triple_sets, st.sampled_from([0.3, 0.5, 0.75, 1.0]))
def test_near_duplicates_are_those_of_a_loop(triples, share):
    found = near_duplicates(tensor_of(triples), NUM_RELATIONS, share)
    assert found == slow_duplicates(triples, share)


@settings(max_examples=200, deadline=None)
@given(triple_sets, st.sampled_from([0.3, 0.5, 1.0]))
def test_the_largest_of_each_cluster_is_kept(triples, share):
    found = near_duplicates(tensor_of(triples), NUM_RELATIONS, share)
    dropped = redundant(found, tensor_of(triples), NUM_RELATIONS)
    cluster = {r: {r} for r in range(NUM_RELATIONS)}
    for one in found:
        joined = cluster[one.relation] | cluster[one.other]
        cluster |= dict.fromkeys(joined, joined)
    size = [sum(s == r for _, s, _ in triples) for r in range(NUM_RELATIONS)]
    for relation, alike in cluster.items():
        largest = max(sorted(alike), key=size.__getitem__)
        assert dropped[relation] == (relation != largest)


def test_a_share_is_met_by_just_as_much():
    pairs = [(i, j) for i in range(15) for j in range(i)][:100]
    triples = [(h, 0, t) for h, t in pairs] + [(t, 1, h) for h, t in pairs[3:]]
    triples += [(20, 1, 21 + i) for i in range(3)]
    assert near_duplicates(tensor_of(triples), 2) == [Overlap(0, 1, True, 0.97, 0.97, 97)]
    assert near_duplicates(tensor_of([*triples, (20, 1, 30)]), 2) == []


def test_self_loops_are_nobodys_reverse():
    loops = tensor_of([(i, r, i) for i in range(5) for r in range(2)])
    assert near_duplicates(loops, 2) == [Overlap(0, 1, False, 1.0, 1.0, 5)]


def test_large_ids_do_not_pass_63_bits():
    far = 2**31
    triples = tensor_of([(far, 0, 3), (3, 1, far), (far - 1, 0, 3), (3, 1, far - 1)])
    assert near_duplicates(triples, 2) == [Overlap(0, 1, True, 1.0, 1.0, 2)]


def loaded(folder: Path, triples: list[tuple[str, str, str]]) -> LoadReport:
    """The load report of triples that go to the splits in turn."""
    for i, split in enumerate(("train", "valid", "test")):
        lines = ["\t".join(triple) + "\n" for triple in triples[i::3]]
        (folder / f"{split}.txt").write_text("".join(lines))
    return load_with_report(folder)[1]


CHAIN = [(f"e{i}", f"e{i + 1}") for i in range(20)]


def test_a_load_tells_of_them_over_all_splits(tmp_path):
    triples = [(h, "of", t) for h, t in CHAIN] + [(t, "[has]", h) for h, t in CHAIN[1:]]
    triples += [(h, "of", t) for h, t in CHAIN[1:]]  # again in another split: no further pairs
    report = loaded(tmp_path, triples)
    assert report.redundancy.warnings == ()
    report = loaded(tmp_path, [*triples, ("e1", "[has]", "e0")])
    assert report.redundancy.warnings == (
        "relations '[has]' and 'of' share at least 100 % of their pairs, reversed",
        "1 pair of relations leaks answers to each other: `kgtool data split --remove-leaks 0.97` "
        "keeps one relation of each pair",
    )
    assert report.warnings[-2:] == report.redundancy.warnings
    twins = report.to_dict()["redundancy"]["first_twins"]
    assert [(one["relation"], one["other"], one["inverse"]) for one in twins] == [
        ("[has]", "of", True)
    ]


def test_a_symmetric_relation_is_told_apart(tmp_path):
    both = [(h, "near", t) for h, t in CHAIN] + [(t, "near", h) for h, t in CHAIN]
    report = loaded(tmp_path, [*both, *((h, "of", t) for h, t in CHAIN)])
    assert report.redundancy.warnings == ("1 relation is symmetric: 'near'",)
    assert report.redundancy.twins == 0


def test_the_warning_stays_short(tmp_path):
    triples = [
        (f"{r // 2}{h}", f"r{r:02}", f"{r // 2}{t}") for r in range(24)
        for h, t in CHAIN[: 20 - r // 2]
    ]  # fmt: skip
    warnings = loaded(tmp_path, triples).redundancy.warnings
    assert len(warnings) == 6
    assert "'r00' and 'r01'" in warnings[0]  # most pairs first
    assert warnings[5].startswith("12 pairs of relations leak")


def test_no_triples_have_no_duplicates():
    assert near_duplicates(torch.empty(0, 3, dtype=torch.long), 3) == []
    assert redundant([], torch.empty(0, 3, dtype=torch.long), 3).tolist() == [False] * 3
