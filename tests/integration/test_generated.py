"""The generated graph: reproducible bytes, the right counts and shape, and true to its rules."""

from __future__ import annotations

import csv
import re
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from scripts import generate_large
from scripts.large_graph import Graph, order, plan, shuffled, skewed

Triple = tuple[str, str, str]
SPLITS = ("train", "valid", "test")
SIZES = {"entities": 2000, "triples": 8000, "relations": 40, "held-out": 60, "seed": 3}
ARGUMENTS = [word for name, size in SIZES.items() for word in (f"--{name}", str(size))]


def made(folder: Path, *more: str) -> Path:
    generate_large.main([str(folder), *ARGUMENTS, *more])
    return folder


def triples(path: Path) -> list[Triple]:
    return [(h, r, t) for h, r, t in (line.split("\t") for line in path.read_text().splitlines())]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("generated") / "graph")


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, list[Triple]]:
    return {split: triples(folder / f"{split}.txt") for split in SPLITS}


class Walker:
    """Finds the ends of paths such as `P3/P1` or `^P3` in train."""

    def __init__(self, train: list[Triple]) -> None:
        self.ends: dict[tuple[str, str], list[str]] = defaultdict(list)
        for head, relation, tail in train:
            self.ends[head, relation].append(tail)
            self.ends[tail, f"^{relation}"].append(head)

    def walk(self, start: str, body: str) -> list[str]:
        ends = [start]
        for step in body.split("/"):
            ends = [end for place in ends for end in self.ends.get((place, step), ())]
        return ends


@pytest.fixture(scope="module")
def walker(splits: dict[str, list[Triple]]) -> Walker:
    return Walker(splits["train"])


def test_the_same_arguments_make_the_same_bytes_whatever_the_piece(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"train.txt", "valid.txt", "test.txt", "rules.tsv", "test.rules.tsv"}
    monkeypatch.setattr(generate_large, "PIECE", 97)
    again = made(tmp_path / "again")
    assert {path.name for path in again.iterdir()} == files
    for name in files:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
    other = made(tmp_path / "other", "--seed", "4")
    assert (other / "train.txt").read_bytes() != (folder / "train.txt").read_bytes()


def test_counts_labels_and_splits(splits: dict[str, list[Triple]]) -> None:
    assert {split: len(found) for split, found in splits.items()} == {
        "train": SIZES["triples"], "valid": SIZES["held-out"], "test": SIZES["held-out"],
    }  # fmt: skip
    every = [triple for split in SPLITS for triple in splits[split]]
    assert len(set(every)) == len(every)  # so that none of valid or test is in train
    trained = {entity for h, _, t in splits["train"] for entity in (h, t)}
    assert trained == {f"Q{n}" for n in range(1, SIZES["entities"] + 1)}
    assert {entity for h, _, t in every for entity in (h, t)} == trained
    relations = {relation for _, relation, _ in splits["train"]}
    assert relations == {f"P{n}" for n in range(1, SIZES["relations"] + 1)}


def test_train_holds_what_a_rule_says_as_often_as_stated(
    folder: Path, splits: dict[str, list[Triple]], walker: Walker
) -> None:
    rules = table(folder / "rules.tsv")
    assert {len(rule["body"].split("/")) for rule in rules} == {1, 2, 3}
    facts = 0
    for rule in rules:
        relation, body = rule["relation"], rule["body"].lstrip("^")
        backwards = body != rule["body"]
        pairs = [(head, tail) for head, r, tail in splits["train"] if r == relation]
        if backwards and body == relation:  # symmetric: which half is the body does not show
            assert sum((tail, head) in pairs for head, tail in pairs) > len(pairs) / 2
            continue
        assert len(pairs) == int(rule["train"])
        right = 0
        for start, end in (pair[::-1] if backwards else pair for pair in pairs):
            ends = walker.walk(start, body)
            assert len(ends) == 1  # the body is there, and says one thing
            right += ends == [end]
        # what is held out was right, and of the rest what is not may be so by chance
        expected = float(rule["confidence"]) * len(pairs)
        held_out = int(rule["valid"]) + int(rule["test"])
        assert abs(right - expected) <= 3 * (len(pairs) / 4) ** 0.5 + held_out, rule
        facts += len(pairs)
    assert facts > 200


def test_what_a_rule_gives_of_test_follows_from_train(
    folder: Path, splits: dict[str, list[Triple]], walker: Walker
) -> None:
    rules = {rule["rule"]: rule for rule in table(folder / "rules.tsv")}
    rows = table(folder / "test.rules.tsv")
    assert [(row["head"], row["relation"], row["tail"]) for row in rows] == splits["test"]
    said = {(h, r) for h, r, _ in splits["train"]}, {(t, r) for _, r, t in splits["train"]}
    count: Counter[str] = Counter()
    for row in rows:
        if not row["rule"]:
            assert row["tails"] == row["heads"] == ""
            continue
        rule = rules[row["rule"]]
        count[row["rule"]] += 1
        assert rule["relation"] == row["relation"]
        backwards = rule["body"].startswith("^")
        start, end = (row["tail"], row["head"]) if backwards else (row["head"], row["tail"])
        body = rule["body"].lstrip("^")
        assert walker.walk(start, body) == [end]
        assert row["heads" if backwards else "tails"] == "1"
        # the others that the rule allows: no conclusion of them is in train
        back = "/".join(f"^{step}" for step in reversed(body.split("/")))
        silent = [s for s in walker.walk(end, back) if (s, row["relation"]) not in said[backwards]]
        assert start in silent
        own_split = int(row["tails" if backwards else "heads"])
        assert 1 <= own_split <= len(silent)
    assert count == {name: int(rule["test"]) for name, rule in rules.items() if rule["test"] != "0"}
    assert 0.55 < count.total() / len(rows) < 0.85


def test_relations_and_in_edges_follow_power_laws() -> None:
    graph = plan(60_000, 200, 250_000, 0)
    hrt = graph.triples(np.arange(250_000))[0]
    frequency = np.sort(np.bincount(hrt[:, 1], minlength=200))[::-1]
    assert frequency[0] == 60_000  # each entity's class
    rank = np.arange(2, 101)
    slope, _ = np.polyfit(np.log(rank), np.log(frequency[1:100]), 1)
    assert -1.4 < slope < -0.6
    degree = np.bincount(hrt[:, 2], minlength=60_000)
    at = 2 ** np.arange(1, 10)
    more = np.array([(degree >= d).sum() for d in at])
    slope, _ = np.polyfit(np.log(at), np.log(more), 1)
    assert -1.6 < slope < -0.8
    assert degree.max() > 0.04 * len(hrt)  # the hub, Wikidata5M's "human"


def test_a_body_is_reached_by_few_edges() -> None:
    graph = plan(60_000, 200, 250_000, 0)
    for facts in graph.facts:
        if facts.rule and len(facts.steps) > 1:
            between = facts.steps[0].tails(facts.steps[0].heads(np.arange(facts.bodies)))
            assert np.bincount(between).max() < 600


def test_memory_does_not_grow_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten times the triples, numpy's peak memory is the same."""
    peaks = []
    for times in (1, 10):
        graph = plan(20_000 * times, 40, 80_000 * times, 0)
        held = generate_large.hold_out(graph, 200)
        tracemalloc.start()
        for hrt in generate_large.train_pieces(graph, held, 10_000):
            generate_large.lines(graph, hrt)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000, 4097])
def test_a_shuffle_is_a_permutation(size: int) -> None:
    place = shuffled(5, np.arange(size), size)
    assert sorted(place.tolist()) == list(range(size))
    assert order(5, size) == place.tolist()
    if size > 64:
        assert np.abs(np.corrcoef(place, np.arange(size))[0, 1]) < 0.1
        assert (np.diff(place) == 1).mean() < 0.01


def test_tails_are_skewed_by_their_power() -> None:
    at = np.arange(200_000)
    for power in (1, 2, 4):
        drawn = skewed(9, at, 1000, power)
        assert 0 <= drawn.min() < drawn.max() < 1000
        assert (drawn == 0).mean() == pytest.approx(1000 ** (-1 / power), rel=0.2)


def test_no_two_facts_are_one_where_heads_have_several_tails() -> None:
    graph: Graph = plan(2000, 40, 8000, 7)
    several = [facts for facts in graph.facts if facts.steps[0].slots > 1]
    assert several
    for facts in several:
        head, tail, _ = facts.stated(np.arange(facts.count))
        assert len(set(zip(head.tolist(), tail.tolist(), strict=True))) == facts.count


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--entities", "10"], "500"),
        (["--triples", "2500"], "do not fit"),
        (["--relations", "29"], "30"),
        (["--relations", "500"], "too few triples"),
        (["--held-out", "1500"], "too many"),
        (["--seed", "-1"], "-1"),
    ],
)
def test_bad_arguments_exit_with_2_and_write_nothing(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        made(tmp_path / "new", *options)
    assert exit_.value.code == 2
    assert re.search(problem, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()
