"""Metrics of splits: pooling, filters, counts and printing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from kgtool.cli.render.ranking import metrics_table
from kgtool.data.dataset import KGDataset
from kgtool.errors import ConfigError, DataError, ScoreError
from kgtool.evaluation.evaluator import SIDES, Evaluation, evaluate_model
from kgtool.evaluation.metrics import HITS, POLICIES, metrics_of, sampled_metrics_of
from kgtool.evaluation.ranking import Ranks
from tests.support.runs import Table, in_memory, ring, write_folder

METRICS = ["mrr", "mr", "gmr", "amr", "amri", *(f"hits@{k}" for k in HITS)]


def constant(dataset: KGDataset) -> Table:
    n = dataset.num_entities
    return Table(torch.zeros(n, 2 * dataset.num_relations, n))


def random(dataset: KGDataset, seed: int = 0) -> Table:
    n = dataset.num_entities
    generator = torch.Generator().manual_seed(seed)
    return Table(torch.rand(n, 2 * dataset.num_relations, n, generator=generator))


def slow_ranks(
    model: Table, dataset: KGDataset, split: str, side: str, filtered: bool
) -> list[float]:
    """Realistic ranks by loops over triples, without inverses or indexes."""
    names = ("train", "valid", "test") if split == "test" else ("train", "valid")
    known = {tuple(t) for name in names for t in dataset.split(name).tolist()}
    ranks = []
    for h, r, t in dataset.split(split).tolist():
        scores = model.scores[(h, r) if side == "tail" else (t, r + dataset.num_relations)]
        answer = t if side == "tail" else h
        better = equal = 0
        for e in range(dataset.num_entities):
            triple = (h, r, e) if side == "tail" else (e, r, t)
            if e == answer or (filtered and triple in known):
                continue
            better += int(scores[e] > scores[answer])
            equal += int(scores[e] == scores[answer])
        ranks.append(better + 1 + equal / 2)
    return ranks


def mean_reciprocal(ranks: list[float]) -> float:
    return sum(1 / rank for rank in ranks) / len(ranks)


@settings(deadline=None)  # the first example compiles
@given(st.data())
def test_sides_are_those_of_loops(data):
    triple = st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 4))
    triples = st.lists(triple, min_size=1, max_size=6, unique=True)
    dataset = in_memory(data.draw(triples), data.draw(triples), data.draw(triples), 5, 2)
    scores = data.draw(st.lists(st.integers(-1, 1), min_size=100, max_size=100))
    model = Table(torch.tensor(scores).double().view(5, 4, 5))
    for split in ("train", "valid", "test"):
        found = evaluate_model(model, dataset, split)
        for table, filtered in ((found.filtered, True), (found.raw, False)):
            head = slow_ranks(model, dataset, split, "head", filtered)
            tail = slow_ranks(model, dataset, split, "tail", filtered)
            for side, ranks in (("head", head), ("tail", tail), ("both", head + tail)):
                metrics = table[side]["realistic"]
                assert metrics["mrr"] == pytest.approx(mean_reciprocal(ranks))
                assert metrics["mr"] == pytest.approx(sum(ranks) / len(ranks))
                assert metrics["hits@3"] == sum(rank <= 3 for rank in ranks) / len(ranks)


def test_both_is_pooled_and_not_the_mean_of_two_means():
    # Each side has as many ranks, so the two differ only where candidates do. With 1 to 4 known,
    # the tail query (0, r, ?) has 7 - 4 candidates, and the head query (?, r, 5) has 7.
    dataset = in_memory([(0, 0, tail) for tail in range(1, 5)], [(5, 0, 6)], [(0, 0, 5)], 7)
    scores = torch.zeros(7, 2, 7)
    scores[0, 0, 5] = 1  # rank 1 of 3
    scores[5, 1, 0] = -1  # rank 7 of 7
    found = evaluate_model(Table(scores), dataset).filtered
    tail, head = 1 / 2, 7 / 4
    assert found["tail"]["realistic"]["amr"] == tail
    assert found["head"]["realistic"]["amr"] == head
    assert found["both"]["realistic"]["amr"] == pytest.approx((1 + 7) / (2 + 4))
    assert found["both"]["realistic"]["amr"] != pytest.approx((tail + head) / 2)
    assert found["both"]["realistic"]["mrr"] == pytest.approx((1 + 1 / 7) / 2)


def test_counts_and_metrics_without_unseen_entities():
    # Entity 3 and relation 1 are not in train.
    dataset = in_memory(
        [(0, 0, 1), (1, 0, 2)], [(0, 0, 2)], [(2, 0, 0), (2, 0, 3), (1, 1, 0)], 4, 2
    )
    model = random(dataset)
    found = evaluate_model(model, dataset)
    assert found.counts == {
        "triples": 3,
        "queries": 6,
        "entities": 4,
        "unseen_entities": 1,
        "unseen_relations": 1,
        "unseen_triples": 2,
    }
    every = slow_ranks(model, dataset, "test", "tail", True)
    assert found.filtered["tail"]["realistic"]["mrr"] == pytest.approx(mean_reciprocal(every))
    seen = found.seen["tail"]["realistic"]["mrr"]
    assert seen == pytest.approx(mean_reciprocal(every[:1]))  # among all entities, 3 included
    assert seen != pytest.approx(mean_reciprocal(every))


def test_seen_is_empty_where_no_triple_is_seen():
    dataset = in_memory([(0, 0, 1)], [(0, 0, 1)], [(0, 0, 2)], 3)
    assert evaluate_model(constant(dataset), dataset).seen == {}


def test_the_filter_of_valid_holds_nothing_of_test():
    # Query (0, r, ?): 1 is the valid answer, 2 the test answer and scored above it, 3 is train's.
    dataset = in_memory([(0, 0, 3)], [(0, 0, 1)], [(0, 0, 2)], 5)
    scores = torch.zeros(5, 2, 5)
    scores[0, 0] = torch.tensor([0.0, 1, 2, 3, 0])
    rank = {
        split: evaluate_model(Table(scores), dataset, split).filtered["tail"]["realistic"]["mr"]
        for split in ("train", "valid", "test")
    }
    assert rank == {"train": 1, "valid": 2, "test": 1}
    scores[0, 0] = torch.tensor([0.0, 3, 2, 1, 0])  # train and valid are filtered of test
    assert evaluate_model(Table(scores), dataset).filtered["tail"]["realistic"]["mr"] == 1
    # Train's rank 3 is 2 with valid filtered: test's answer stays.
    assert evaluate_model(Table(scores), dataset, "train").filtered["tail"]["realistic"]["mr"] == 2


def test_nothing_of_test_moves_the_numbers_of_valid():
    dataset = ring()
    moved = replace(dataset, test=dataset.test.flip(1))
    model = random(dataset)
    assert evaluate_model(model, dataset, "valid") == evaluate_model(model, moved, "valid")
    assert evaluate_model(model, dataset) != evaluate_model(model, moved)


def test_constant_scores_are_chance():
    dataset = ring()
    found = evaluate_model(constant(dataset), dataset)
    for side in SIDES:
        for table in (found.filtered, found.raw, found.seen):
            assert table[side]["realistic"]["amr"] == pytest.approx(1.0, abs=1e-12)
    assert found.raw["both"]["realistic"]["mr"] == (dataset.num_entities + 1) / 2
    assert found.filtered["both"]["optimistic"]["mrr"] == 1.0


def test_an_oracle_of_the_test_file_is_perfect(tmp_path):
    dataset = ring()
    folder = write_folder(dataset, tmp_path / "ring")
    entity, relation = dataset.vocabulary.entity_ids, dataset.vocabulary.relation_ids
    scores = torch.zeros(dataset.num_entities, 2 * dataset.num_relations, dataset.num_entities)
    for line in (folder / "test.txt").read_text().splitlines():
        head, r, tail = line.split("\t")
        scores[entity[head], relation[r], entity[tail]] = 1
        scores[entity[tail], relation[r] + dataset.num_relations, entity[head]] = 1
    found = evaluate_model(Table(scores), dataset)
    assert found.mrr == 1.0
    for side in SIDES:
        metrics = found.filtered[side]["pessimistic"]
        assert metrics["hits@1"] == 1.0
        assert metrics["mr"] == 1.0
    # It knows the test file, and nothing else.
    assert evaluate_model(Table(scores), dataset, "valid").mrr < 0.5


def test_to_dict_is_json_with_the_filtered_sides_at_the_top():
    dataset = ring()
    found = evaluate_model(random(dataset), dataset)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    order = ["split", "candidates", *SIDES, "raw", "seen", "sampled", "counts"]
    assert list(data) == order
    assert data["candidates"] == "all"
    assert data["both"]["realistic"]["mrr"] == found.mrr
    for table in (data, data["raw"], data["seen"]):
        for side in SIDES:
            assert tuple(table[side]) == POLICIES
            for policy in POLICIES:
                assert list(table[side][policy]) == METRICS


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_empty_split_raises(split):
    nothing: dict[str, Any] = {split: torch.zeros(0, 3, dtype=torch.long)}
    dataset = replace(ring(), **nothing)
    with pytest.raises(DataError, match=f"{split} .*no triples"):
        evaluate_model(random(dataset), dataset, split)


def test_no_ranks_and_no_such_split_raise():
    none = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="no ranks"):
        metrics_of(Ranks(none, none, none))
    with pytest.raises(ConfigError, match=r"'tset'\. Remedy: did you mean 'test'"):
        evaluate_model(random(ring()), ring(), "tset")


def test_a_score_that_is_not_finite_raises():
    dataset = ring()
    model = random(dataset)
    head, relation, _ = dataset.test[3].tolist()
    model.scores[head, relation, 0] = float("nan")
    with pytest.raises(ScoreError, match=f"head {head}, relation {relation}, "):
        evaluate_model(model, dataset)


def test_the_chunk_size_and_the_bar_change_nothing(monkeypatch, capsys):
    dataset = ring()
    model = random(dataset)
    found = evaluate_model(model, dataset)
    assert evaluate_model(model, dataset, chunk_size=3) == found
    assert capsys.readouterr() == ("", "")
    assert evaluate_model(model, dataset, progress=True) == found
    assert capsys.readouterr() == ("", "")  # off a terminal: a line a minute
    monkeypatch.setattr("kgtool.ops.runtime.progress.is_watched", lambda: True)
    assert evaluate_model(model, dataset, progress=True) == found
    assert "test: " in capsys.readouterr().err


def rendered(found: Evaluation, width: int = 80) -> str:
    file = StringIO()
    Console(width=width, file=file).print(metrics_table(found))
    return file.getvalue()


def large(found: Evaluation) -> Evaluation:
    """The same evaluation with the largest numbers that a public benchmark has."""
    filtered = {
        side: {policy: {**m, "mr": 161_234.5, "mrr": 0.12345} for policy, m in policies.items()}
        for side, policies in found.filtered.items()
    }
    counts = found.counts | {"entities": 923_182, "queries": 40_932, "unseen_triples": 1_234}
    return replace(found, filtered=filtered, raw=filtered, seen=filtered, counts=counts)


@pytest.mark.parametrize("change", [lambda found: found, large], ids=["small", "large"])
def test_the_table_fits_80_columns(change):
    dataset = in_memory([(0, 0, 1), (1, 0, 2)], [(0, 0, 2)], [(2, 0, 0), (2, 0, 3)], 4)
    found = change(evaluate_model(random(dataset), dataset))
    text = rendered(found)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text

    def row(side: str, ties: str) -> list[str]:
        rows = [re.split(r"  +", line.strip()) for line in lines]
        [cells] = [cells for cells in rows if cells[:2] == [side, ties]]
        return cells

    for side in SIDES:
        m = found.filtered[side]["realistic"]
        cells = [f"{m['mrr']:.4f}", f"{m['mr']:,.1f}", f"{m['amr']:.4f}"]
        cells += [f"{m[f'hits@{k}']:.3f}" for k in HITS]
        assert row(side, "realistic") == [side, "realistic", *cells]
    for side, ties in (
        ("both", "optimistic"),
        ("both", "pessimistic"),
        ("both, raw", "realistic"),
        ("both, seen", "realistic"),
    ):
        assert len(row(side, ties)) == 8
    assert f"{found.counts['entities']:,} entities" in text
    assert "Filtered by train + valid + test" in text


def test_the_table_says_what_it_filtered_and_omits_an_idle_row():
    dataset = ring()
    text = rendered(evaluate_model(random(dataset), dataset, "valid"))
    assert "valid: 16 queries over 24 entities" in text
    assert "Filtered by train + valid, except" in text
    assert "seen" not in text


def test_sampled_metrics_are_the_mean_over_draws():
    ranks = Ranks(
        better=torch.tensor([0, 3, 40, 99]),
        equal=torch.tensor([0, 2, 0, 0]),
        candidates=torch.tensor([100, 100, 100, 100]),
    )
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, list[float]] = {"mrr": [], "hits@10": []}
    for better, equal in zip(ranks.better.tolist(), ranks.equal.tolist(), strict=True):
        for _ in range(4000):
            place = torch.randperm(99, generator=generator)[:20]
            for above in (better, better + equal):
                rank = 1 + int((place < above).sum())
                drawn["mrr"].append(1 / rank)
                drawn["hits@10"].append(float(rank <= 10))
    found = sampled_metrics_of(ranks, negatives=20)
    for name, values in drawn.items():
        assert found[name] == pytest.approx(sum(values) / len(values), abs=0.01)


def test_all_candidates_as_negatives_are_the_full_ranking():
    dataset = ring()
    found = evaluate_model(random(dataset), dataset)
    both = found.filtered["both"]["realistic"]
    assert dataset.num_entities <= 50
    assert found.sampled == pytest.approx({name: both[name] for name in found.sampled})
