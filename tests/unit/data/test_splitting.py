"""Splits: random (compared with loops), by time, into two graphs; and their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kgtool
from kgtool.data.dataset import Vocabulary
from kgtool.data.loaders import Reading, load_dataset
from kgtool.data.loaders.write import check_labels, write_triples
from kgtool.data.splitting import (
    BETWEEN,
    LEAK,
    LEFT_OUT,
    OTHER_RELATION,
    UNSEEN,
    distinct,
    divide_entities,
    random_split,
    time_split,
    unseen,
)
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import ConfigError, DataError
from tests.support.graphs import Triple, tensor_of, tuples_of

ENTITIES, RELATIONS = 6, 5

triple_sets = st.lists(
    st.tuples(
        st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1), st.integers(0, ENTITIES - 1)
    ),
    max_size=60, unique=True,
)  # fmt: skip
shares = st.sampled_from([(0.1, 0.1), (0.3, 0.1), (0.05, 0.4), (0.45, 0.5)])


def couple(triple: Triple) -> tuple[int, int]:
    head, _, tail = triple
    return min(head, tail), max(head, tail)


def holds(triples: list[Triple]) -> set[tuple[str, int]]:
    """The entities and relations of triples."""
    return {("e", e) for h, _, t in triples for e in (h, t)} | {("r", r) for _, r, _ in triples}


def slow_split(triples: list[Triple], valid: float, test: float, seed: int) -> list[int]:
    """A slow version of `random_split`: checks, for each group, what train loses without it."""
    groups = sorted({couple(triple) for triple in triples})
    order = np.random.default_rng(seed).permutation(len(groups))
    wanted = {1: max(1, round(valid * len(triples))), 2: max(1, round(test * len(triples)))}
    side = dict.fromkeys(triples, 0)
    for number in order.tolist():
        group = [triple for triple in triples if couple(triple) == groups[number]]
        count = Counter(side.values())
        ahead = Fraction(count[1], wanted[1]) <= Fraction(count[2], wanted[2])
        sides = (1, 2) if ahead else (2, 1)
        room = [to for to in sides if count[to] + len(group) <= wanted[to]]
        without = [t for t in triples if side[t] == 0 and t not in group]
        if room and holds(group) <= holds(without):
            side |= dict.fromkeys(group, room[0])
    return list(side.values())


@settings(max_examples=150, deadline=None)
@given(triple_sets, shares, st.integers(0, 3))
def test_a_random_split_is_that_of_a_loop(triples, share, seed):
    found = random_split(
        tensor_of(triples), ENTITIES, RELATIONS, valid=share[0], test=share[1], seed=seed
    )
    assert found.dtype == torch.int8
    assert found.tolist() == slow_split(triples, share[0], share[1], seed)


@settings(max_examples=150, deadline=None)
@given(triple_sets, shares, st.integers(0, 3), st.randoms(use_true_random=False))
def test_what_a_random_split_promises(triples, share, seed, random):
    def split(rows: list[Triple]) -> dict[Triple, int]:
        sides = random_split(
            tensor_of(rows), ENTITIES, RELATIONS, valid=share[0], test=share[1], seed=seed
        ).tolist()
        return dict(zip(rows, sides, strict=True))

    side = split(triples)
    train = [triple for triple in triples if side[triple] == 0]
    assert holds(train) == holds(triples)
    for one in triples:
        for other in triples:
            assert side[one] == side[other] or couple(one) != couple(other)
    room = {}
    for to, part in zip((1, 2), share, strict=True):
        room[to] = max(1, round(part * len(triples))) - list(side.values()).count(to)
        assert room[to] >= 0
    # whatever could still be held out has no room
    for group in {couple(triple) for triple in train}:
        members = [triple for triple in train if couple(triple) == group]
        if holds(members) <= holds([triple for triple in train if triple not in members]):
            assert len(members) > max(room.values())
    # the order of the rows says nothing
    shuffled = random.sample(triples, len(triples))
    assert split(shuffled) == side


def test_shares_are_reached_where_there_is_room_and_seeds_differ():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, high, 6000) for high in (200, 10, 200)]
    triples = torch.from_numpy(np.stack(rows, 1)).unique(dim=0)
    splits = [random_split(triples, 200, 10, valid=0.1, test=0.2, seed=seed) for seed in (0, 1)]
    for found in splits:
        assert torch.bincount(found)[1:].tolist() == [
            round(share * len(triples)) for share in (0.1, 0.2)
        ]
    assert (splits[0] != splits[1]).any()


def test_a_tree_can_miss_nothing():
    star = tensor_of([(0, 0, leaf) for leaf in range(1, 8)])
    assert not random_split(star, 8, 1, valid=0.3, test=0.3).any()
    assert not len(random_split(star[:0], 8, 1))


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=60))
def test_distinct_rows_are_the_first_ones(triples):
    first = [i for i, triple in enumerate(triples) if triple not in triples[:i]]
    assert distinct(tensor_of(triples), 4).tolist() == first


def slow_division(triples: list[Triple], share: float, seed: int) -> set[int]:
    """A slow version of `divide_entities`: counts edges for every entity at every step."""
    there = sorted({entity for head, _, tail in triples for entity in (head, tail)})
    order = [there[i] for i in np.random.default_rng(seed).permutation(len(there))]
    ends = [(head, tail) for head, _, tail in triples if head != tail]
    inside: set[int] = set()

    def reach(entity: int) -> Fraction:
        near = [a if b == entity else b for a, b in ends if entity in (a, b)]
        return Fraction(sum(n in inside for n in near), len(near)) if near else Fraction(0)

    while len(inside) < round(share * len(there)):
        inside.add(max((e for e in order if e not in inside), key=reach))  # the first of the best
    return inside


@settings(max_examples=100, deadline=None)
@given(triple_sets, st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 3))
def test_entities_are_divided_as_by_a_loop(triples, share, seed):
    found = divide_entities(tensor_of(triples), ENTITIES, share, seed)
    assert set(found.nonzero().flatten().tolist()) == slow_division(triples, share, seed)


def test_a_second_graph_is_cut_where_the_graph_is_thin():
    blocks = [(8 * b + i, 0, 8 * b + j) for b in range(2) for i in range(8) for j in range(i)]
    found = divide_entities(tensor_of([*blocks, (0, 0, 8)]), 16, 0.5)
    assert found[:8].all() != found[8:].all()
    assert found.sum() == 8


timestamp_lists = st.integers(3, 6).flatmap(
    lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=40).map(
        lambda drawn: [*range(n), *drawn]
    )
)


@settings(max_examples=150, deadline=None)
@given(timestamp_lists, shares, st.data())
def test_what_a_split_by_time_promises(timestamp, share, data):
    size = len(timestamp)
    triples = data.draw(st.lists(triple_sets.filter(len).map(lambda some: some[0]),
                                 min_size=size, max_size=size))  # fmt: skip
    found = time_split(tensor_of(triples), torch.tensor(timestamp), *share).tolist()
    train = [triple for triple, side in zip(triples, found, strict=True) if side == 0]
    for triple, side in zip(triples, found, strict=True):
        assert (side == LEFT_OUT) == (not holds([triple]) <= holds(train))
    # each timestamp is on one side, in order, and none is without one
    last = max(timestamp)

    def cost(end: int, share_before: float) -> float:
        return abs(sum(m <= end for m in timestamp) - share_before * size)

    ends = [max((m for m, side in zip(timestamp, found, strict=True) if side == 0), default=-1)]
    best = min(range(last - 1), key=lambda end: cost(end, 1 - sum(share)))
    assert ends == [best]
    second = min(range(best + 1, last), key=lambda end: cost(end, 1 - share[1]))
    for m, side in zip(timestamp, found, strict=True):
        assert side in (LEFT_OUT, 0 if m <= best else 1 if m <= second else 2)


def test_two_timestamps_make_no_three_splits():
    with pytest.raises(ValueError, match="2 timestamps"):
        time_split(tensor_of([(0, 0, 1)] * 2), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "in_order",
    [
        ["-3", "-0.5", "2", "10", "1e2"],
        ["2014", "2015", "12014"],
        ["2014", "2014-05", "2014-05-01", "2014-05-01T09:30:00Z", "2014-05-02 00:00", "2015"],
        ["2014-05-01T09:30:00Z", "2014-05-01T09:30:00.5Z", "2014-05-01T09:30:01"],
        ["9007199254740992", "9007199254740993"],
    ],
)
def test_times_sort_by_what_they_say(in_order):
    assert rank_timestamps(in_order, "x").tolist() == list(range(len(in_order)))
    assert rank_timestamps(in_order[::-1] * 2, "x").tolist() == list(range(len(in_order)))[::-1] * 2


def test_the_same_time_in_other_words_is_one():
    assert rank_timestamps(["1", "1.0", "2", "+1e0"], "x").tolist() == [0, 0, 1, 0]
    same = ["2014-05-01T09:30Z", "2014-05-01 09:30", "2014-05-01T09:31"]
    assert rank_timestamps(same, "x").tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "odd", ["", " 1", "1_0", "nan", "inf", "may", "1/2/2014", "2014-13-01", "2014-05-32",
            "2014-05-01T09:30:00+02:00", "-0044-03-15", "1e99999", "٣"],
)  # fmt: skip
def test_another_time_is_an_error_that_names_it(odd):
    with pytest.raises(DataError, match=r"kg\.tsv: the time .* of triple 2 .*Remedy: ") as caught:
        rank_timestamps(["2014-05-01", odd], "kg.tsv")
    assert repr(odd) in str(caught.value)
    with pytest.raises(DataError):
        rank_timestamps(["7", odd], "kg.tsv")


# Folders.


def write(path: Path, triples: Sequence[tuple[object, ...]]) -> Path:
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in triples), encoding="utf-8")
    return path


def read(path: Path) -> list[tuple[str, ...]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def grid(size: int = 12, label: str = "e") -> list[tuple[Any, ...]]:
    """A dense graph of two relations."""
    return [
        (f"{label}{i}", f"r{(i + j) % 2}", f"{label}{j}")
        for i in range(size) for j in range(i) if (i * j) % 5
    ]  # fmt: skip


def test_a_folder_holds_each_distinct_triple_once(tmp_path):
    lines = grid()
    made = kgtool.split(
        [write(tmp_path / "a.tsv", lines), write(tmp_path / "b.tsv", lines[:7])], tmp_path / "kg"
    )
    parts = {name: read(tmp_path / "kg" / f"{name}.txt") for name in ("train", "valid", "test")}
    assert sorted(line for part in parts.values() for line in part) == sorted(lines)
    for part in parts.values():
        assert part == [line for line in lines if line in part]  # in file order
    assert (made.read, made.duplicates, made.left_out) == (len(lines) + 7, 7, {})
    assert made.notes == ()
    for row in made.table.itertuples():
        part = parts[row.split]
        assert row.triples == len(part)
        assert row.entities == len({e for h, _, t in part for e in (h, t)})
        assert row.relations == len({r for _, r, _ in part})
    assert sorted(path.name for path in (tmp_path / "kg").iterdir()) == [
        "test.txt", "train.txt", "valid.txt",
    ]  # fmt: skip
    assert len(load_dataset(tmp_path / "kg").valid) == round(0.1 * len(lines))


def test_two_graphs_share_relations_and_no_entity(tmp_path):
    lines = [*grid(label="a"), *grid(label="b"), ("a1", "r0", "b1")]
    lines += [(f"{x}3", f"own-{x}", f"{x}5") for x in "ab"]
    file = write(tmp_path / "x.tsv", lines)
    made = kgtool.split(file, tmp_path / "kg", inductive=0.5)
    first, second = load_dataset(tmp_path / "kg"), load_dataset(tmp_path / "kg_ind")
    assert not set(first.vocabulary.entities) & set(second.vocabulary.entities)
    trained = {first.vocabulary.relations[r] for r in first.train[:, 1].tolist()}
    assert set(second.vocabulary.relations) <= trained
    assert made.left_out == {BETWEEN: 1, OTHER_RELATION: 1}
    left = read(tmp_path / "kg" / "left_out.txt")
    assert [line[:3] for line in left if line[3] == BETWEEN] == [("a1", "r0", "b1")]
    assert sum(made.table["triples"]) + 2 == len(lines)
    assert made.table["folder"].tolist() == ["kg"] * 3 + ["kg_ind"] * 3


def test_leaks_and_later_strangers_are_left_out_and_told(tmp_path):
    lines = [(*line, 2000 + i // 3) for i, line in enumerate(grid())]
    lines += [(t, "twin", h, year) for h, r, t, year in lines if r == "r1"]
    lines.append(("e1", "r0", "stranger", 2999))
    lines.insert(0, (*lines[0][:3], 2998))  # the same, later
    made = kgtool.split(
        write(tmp_path / "x.tsv", lines), tmp_path / "kg", time="4", remove_leaks=0.97
    )
    left = read(tmp_path / "kg" / "left_out.txt")
    twins = sum(line[1] == "twin" for line in lines)
    assert made.left_out[LEAK] == twins == sum(line[3] == LEAK for line in left)
    assert ("e1", "r0", "stranger", UNSEEN) in left
    assert made.duplicates == 1
    year = {line[:3]: line[3] for line in sorted(lines, key=lambda line: -line[3])}
    spans = [
        [year[line] for line in read(tmp_path / "kg" / f"{name}.txt")]
        for name in ("train", "valid", "test")
    ]
    assert max(spans[0]) < min(spans[1]) <= max(spans[1]) < min(spans[2])
    assert sum(made.table["triples"]) + len(left) + 1 == len(lines)


def test_what_shares_cannot_be_reached_is_said(tmp_path):
    # of the star nothing can go, of the six edges between four nodes three or four
    lines = [("hub", "r", f"leaf{i}") for i in range(44)]
    lines += [(a, "r", b) for a in "wxyz" for b in "wxyz" if a < b]
    made = kgtool.split(write(tmp_path / "x.tsv", lines), tmp_path / "kg")
    assert len(made.notes) == 2
    assert "valid of kg has 2 triples, not the requested 5: " in made.notes[0]


@pytest.mark.parametrize(
    ("lines", "options", "error", "words"),
    [
        ([("a", "r", f"b{i}") for i in range(9)], {}, DataError, "no triple is left for"),
        (grid(), {"valid": 0.0}, ConfigError, "valid = 0 is out of range"),
        (grid(), {"valid": 0.6, "test": 0.5}, ConfigError, "valid and test = 1.1 is out of range"),
        (grid(), {"test": float("nan")}, ConfigError, "test = nan is out of range"),
        (grid(), {"inductive": 1.0}, ConfigError, "inductive = 1 is out of range"),
        (grid(), {"inductive": 0.01}, DataError, "no triple is left for train of .*kg_ind"),
        (grid(), {"remove_leaks": 1.5}, ConfigError, "remove_leaks = 1.5 is out of range"),
        (grid(), {"inductive": 0.5, "time": "4"}, ConfigError, "exclude each other"),
        ([(*line, 1) for line in grid()], {"time": "4"}, DataError, "has 1 distinct values; three"),
        ([(*line, "x") for line in grid()], {"time": "4"}, DataError, "the time 'x' of triple 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_leaves_nothing(tmp_path, lines, options, error, words):
    file = write(tmp_path / "x.tsv", lines)
    with pytest.raises(error, match=words):
        kgtool.split(file, tmp_path / "kg", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tsv"]


def test_a_taken_folder_stays_as_it_is(tmp_path):
    file = write(tmp_path / "x.tsv", grid())
    (tmp_path / "kg_ind").mkdir()
    (tmp_path / "kg_ind" / "mine").touch()
    with pytest.raises(ConfigError, match=r"kg_ind exists already\. Remedy"):
        kgtool.split(file, tmp_path / "kg", inductive=0.5)
    assert not (tmp_path / "kg").exists()
    (tmp_path / "kg").mkdir()  # an empty one is no loss
    assert kgtool.split(file, tmp_path / "kg").folders == (tmp_path / "kg",)
    with pytest.raises(ConfigError, match="kg exists already"):
        kgtool.split(file, tmp_path / "kg")


labels = st.text(st.characters(exclude_characters="\t\n\r\0", codec="utf-8"), min_size=1)


@settings(deadline=None)
@example(["\ufeff", "a"])
@given(st.lists(labels.filter(lambda text: bool(text.strip())), min_size=2, unique=True))
def test_labels_come_back_as_they_were(tmp_path_factory, known):
    folder = tmp_path_factory.mktemp("kg")
    vocabulary = Vocabulary(tuple(known), (known[0],))
    check_labels(vocabulary)
    rows = tensor_of([(i, 0, (i + 1) % len(known)) for i in range(len(known))])
    for name in ("train", "valid", "test"):
        write_triples(folder / f"{name}.txt", rows, vocabulary)
    back = load_dataset(folder, vocabulary)
    assert tuples_of(back.train) == tuples_of(rows)


@pytest.mark.parametrize("odd", [" ", "a\tb", "a\nb", "a\r", "\0"])
def test_a_label_that_a_file_cannot_hold_is_an_error(odd):
    for vocabulary in (Vocabulary((odd,), ("r",)), Vocabulary(("e",), (odd,))):
        with pytest.raises(DataError, match=r"so a TSV file cannot hold it\. Remedy"):
            check_labels(vocabulary)


@settings(max_examples=150, deadline=None)
@given(triple_sets, shares, st.integers(0, 3))
def test_unseen_entities_fill_up_the_shares(triples, share, seed):
    rows = tensor_of(triples)
    options = {"valid": share[0], "test": share[1], "seed": seed}
    strict = random_split(rows, ENTITIES, RELATIONS, **options)
    found = random_split(rows, ENTITIES, RELATIONS, **options, allow_unseen=True)
    # the triples that a strict split holds out stay where they are
    assert (found[strict > 0] == strict[strict > 0]).all()
    couples = [couple(triple) for triple in triples]
    sides = dict(zip(couples, found.tolist(), strict=True))
    assert [sides[each] for each in couples] == found.tolist()
    sizes = Counter(couples)
    in_train = [size for each, size in sizes.items() if sides[each] == 0]
    assert in_train or not triples
    for number, part in zip((1, 2), share, strict=True):
        held = found.tolist().count(number)
        wanted = max(1, round(part * len(triples)))
        groups = [size for each, size in sizes.items() if sides[each] == number]
        assert held <= wanted or len(groups) == 1
        if len(in_train) > 1 and not held:
            raise AssertionError("an empty side, though train has more than a group")


def test_unseen_triples_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    triples = torch.from_numpy(np.stack([rng.integers(0, n, 40) for n in (15, 6, 15)], 1))
    train = torch.from_numpy(rng.random(40) < 0.5)
    known = holds([tuple(row) for row in triples[train].tolist()])
    expected = [not holds([tuple(row)]) <= known for row in triples.tolist()]
    assert unseen(triples, train).tolist() == expected
    assert any(expected)


def test_one_file_is_split_by_the_default_rule(tmp_path):
    """`load_dataset(FILE)` gives what `kgtool data split FILE` gives, duplicates or not."""
    rng = np.random.default_rng(2)
    rows = [f"e{h}\tr{r}\te{t}\n" for h, r, t in rng.integers(0, (30, 3, 30), (400, 3)).tolist()]
    (tmp_path / "g.tsv").write_text("".join(rows + rows[:50]))
    kgtool.split(tmp_path / "g.tsv", tmp_path / "kg")
    one, other = load_dataset(tmp_path / "g.tsv"), load_dataset(tmp_path / "kg")
    assert one.fingerprint == other.fingerprint
    assert one.loading["split"] == {"valid": 0.1, "test": 0.1, "seed": 0}
    again = load_dataset(tmp_path / "g.tsv", vocabulary=one.vocabulary)
    assert again.fingerprint == one.fingerprint


def test_time_needs_its_own_option(tmp_path):
    place = tmp_path / "g.csv"
    place.write_text("h,r,t,w\n" + "".join(f"a{i % 5},r,b{i % 4},{i}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"line 4: the weight is '2', .* split takes --time w"):
        kgtool.split(place, tmp_path / "no", reading=Reading(columns=("h", "r", "t", "w")))
    assert not (tmp_path / "no").exists()
    drawn = kgtool.split(place, tmp_path / "drawn", reading=Reading(columns=("h", "r", "t")))
    assert "columns left out: w; --keep-columns w keeps them" in drawn.notes
    kgtool.split(place, tmp_path / "timed", time="w", keep_columns=["w"], allow_unseen=True)
    times = {}
    for split in ("train", "valid", "test"):
        header, *lines = (tmp_path / "timed" / f"{split}.txt").read_text().splitlines()
        assert header == "head\trelation\ttail\tw"
        times[split] = [int(line.split("\t")[3]) for line in lines]
    assert max(times["train"]) < min(times["valid"]) <= max(times["valid"]) < min(times["test"])
    assert sum(map(len, times.values())) == 20


def test_negatives_are_not_split(tmp_path):
    place = tmp_path / "g.tsv"
    rows = [(f"a{i % 5}", "r", f"b{i % 4}", "1") for i in range(20)]
    place.write_text("".join("\t".join(row) + "\n" for row in [*rows, ("a0", "r", "zz", "-1")]))
    found = kgtool.split(place, tmp_path / "kg", reading=Reading(truth="4"))
    assert found.left_out == {"negative": 1}
    assert (tmp_path / "kg" / "left_out.txt").read_text() == "a0\tr\tzz\tnegative\n"
    assert "zz" not in load_dataset(tmp_path / "kg").vocabulary.entities


@pytest.mark.parametrize("name", ["train.txt", "g.tsv"])
def test_a_split_never_replaces_its_source(tmp_path, name):
    folder = tmp_path / "kg"
    folder.mkdir()
    source = "".join(f"a{i % 5}\tr\tb{i % 4}\n" for i in range(20))
    (folder / name).write_text(source)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"exists already|holds the input"):
            kgtool.split(folder / name, folder, overwrite=overwrite)
    assert [file.name for file in folder.iterdir()] == [name]
    assert (folder / name).read_text() == source
