"""The bundled families: reproducible byte for byte, true to their rules, and without leaks."""

import re
import runpy
from collections import Counter, defaultdict
from itertools import product

import pytest

from tests.support.places import ROOT

SHIPPED = ROOT / "datasets" / "families"
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "make_families.py"))
SPLITS = ("train", "valid", "test")
BASE, RULES = SCRIPT["BASE"], SCRIPT["RULES"]


@pytest.fixture(scope="module")
def splits():
    """The bundled triples of each split."""
    return {
        split: [
            tuple(line.split("\t"))
            for line in (SHIPPED / f"{split}.txt").read_bytes().decode().split("\n")[:-1]
        ]
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def base(splits):
    """The base facts of train as sets of pairs, by relation; `^r` is `r` backwards."""
    pairs = defaultdict(set)
    for head, relation, tail in splits["train"]:
        if relation in BASE:
            pairs[relation].add((head, tail))
            pairs[f"^{relation}"].add((tail, head))
    return pairs


@pytest.fixture(scope="module")
def parents(base):
    """The set of parents of each child."""
    found = defaultdict(set)
    for parent, child in base["father_of"] | base["mother_of"]:
        found[child].add(parent)
    return found


def join(left, right):
    """The pairs (x, z) such that, for some y, (x, y) is on the left and (y, z) on the right."""
    tails = defaultdict(list)
    for y, z in right:
        tails[y].append(z)
    return {(x, z) for x, y in left for z in tails[y]}


def derived(facts):
    return [fact for fact in facts if fact[1] not in BASE]


def test_the_command_in_the_readme_makes_the_shipped_bytes(tmp_path, capsys):
    readme = (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")
    (options,) = re.findall(r"make_families\.py --out \S+ (--.*)", readme)
    SCRIPT["main"](["--out", str(tmp_path), *options.split()])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{s}.txt" for s in SPLITS)
    for split in SPLITS:
        name = f"{split}.txt"
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_another_seed_makes_another_graph(splits):
    assert SCRIPT["make"](5000, 2)["train"] != splits["train"]


@pytest.mark.parametrize(
    "options",
    [
        ["--people", "499"],
        ["--people", "many"],
        ["--people", "20001"],
        ["--seed", "-1"],
        ["--seed", "0.5"],
        ["--out", __file__],
        ["--what"],
    ],
)
def test_bad_arguments_exit_with_2_and_write_nothing(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        SCRIPT["main"](["--out", str(tmp_path / "new"), *options])
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_lines_are_distinct_and_sorted_and_every_person_is_known(splits):
    facts = [fact for split in SPLITS for fact in splits[split]]
    assert all(len(fact) == 3 for fact in facts)
    assert len(set(facts)) == len(facts)
    for split in SPLITS:
        assert splits[split] == sorted(splits[split])
    people = {person for head, _, tail in facts for person in (head, tail)}
    assert len(people) == 5000
    assert all(re.fullmatch(r"[A-Z][a-z]+_[A-Z][a-z]+_(18|19|20)\d\d", p) for p in people)


def test_the_rules_over_the_base_facts_give_exactly_the_derived_facts(splits, base):
    given = {
        (x, relation, z)
        for relation, steps in RULES.items()
        for path in product(*steps)
        for x, z in join(base[path[0]], base[path[1]])
    }
    assert all(len(steps) == 2 for steps in RULES.values())
    assert given == {fact for split in SPLITS for fact in derived(splits[split])}
    assert all(x != z for x, _, z in given)


def test_valid_and_test_hold_derived_facts_of_every_kind_and_train_knows_their_people(splits):
    known = {person for head, _, tail in splits["train"] for person in (head, tail)}
    total = sum(map(len, splits.values()))
    trained = Counter(relation for _, relation, _ in splits["train"])
    assert set(trained) == {*BASE, *RULES}
    for split in ("valid", "test"):
        assert {relation for _, relation, _ in splits[split]} == set(RULES)
        assert {p for head, _, tail in splits[split] for p in (head, tail)} <= known
        assert 0.05 <= len(splits[split]) / total <= 0.10
    hidden = Counter(relation for split in ("valid", "test") for _, relation, _ in splits[split])
    assert all(trained[relation] > 2 * hidden[relation] for relation in RULES)


def test_a_pair_of_people_is_in_one_split_only(splits):
    pairs = {s: {frozenset((h, t)) for h, _, t in derived(splits[s])} for s in SPLITS}
    assert not pairs["train"] & pairs["valid"]
    assert not pairs["train"] & pairs["test"]
    assert not pairs["valid"] & pairs["test"]


def test_no_fact_of_train_is_another_one_backwards_or_between_the_same_two(splits):
    """Except among siblings: their facts are base facts and are never held out."""
    facts = [f for s in SPLITS for f in splits[s] if f[1] not in ("brother_of", "sister_of")]
    assert len({frozenset((head, tail)) for head, _, tail in facts}) == len(facts)


def test_a_hidden_link_has_an_end_whose_sibling_group_has_no_derived_fact_in_train(splits, parents):
    def group(person):
        return frozenset(parents[person]) or person

    seen = {group(p) for head, _, tail in derived(splits["train"]) for p in (head, tail)}
    for split in ("valid", "test"):
        for head, relation, tail in splits[split]:
            assert {group(head), group(tail)} - seen, (head, relation, tail)


def test_people_are_plausible(base, parents):
    def born(person):
        return int(person.rsplit("_", 1)[1])

    def above(people):
        return {parent for person in people for parent in parents[person]}

    couples = base["husband_of"] | {
        (father, mother)
        for father, child in base["father_of"]
        for mother in parents[child] - {father}
    }
    assert all(len(found) == 2 for found in parents.values() if found)
    assert all(20 <= born(child) - born(p) <= 36 for child in parents for p in parents[child])
    for side in zip(*couples, strict=True):  # at most one partner, with children or without
        assert len(set(side)) == len(couples)
    for two in couples:
        assert abs(born(two[0]) - born(two[1])) <= 8
        lines = [{person} for person in two]
        for _ in range(3):  # no siblings, no first cousins, no second cousins
            lines = [above(line) for line in lines]
            assert not lines[0] & lines[1], two
    siblings = base["brother_of"] | base["sister_of"]
    assert all(parents[x] == parents[y] for x, y in siblings)
    families = defaultdict(set)
    for child, found in parents.items():
        if found:
            families[frozenset(found)].add(child)
    assert len(siblings) == sum(len(f) * (len(f) - 1) for f in families.values())
    assert {len(family) for family in families.values()} == {1, 2, 3, 4}
    men = {x for r in ("father_of", "brother_of", "husband_of") for x, _ in base[r]}
    women = {x for r in ("mother_of", "sister_of") for x, _ in base[r]}
    assert not men & (women | {wife for _, wife in base["husband_of"]})


def test_the_readme_counts_what_is_there(splits):
    counts = {split: Counter(relation for _, relation, _ in splits[split]) for split in SPLITS}
    rows: dict[str, tuple[str, list[int]]] = {}
    for line in (ROOT / "datasets" / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(("| `", "| all")):
            name, rule, *numbers = (cell.strip(" `") for cell in line.split("|")[1:-1])
            rows[name] = (rule, [int(number.replace(",", "")) for number in numbers])
    assert rows.pop("all")[1] == [len(splits[split]) for split in SPLITS]
    assert set(rows) == {*BASE, *RULES}
    for name, (rule, found) in rows.items():
        assert found == [counts[split][name] for split in SPLITS], name
        if name in RULES:
            steps = tuple(tuple(step.split(" or ")) for step in rule.replace("`", "").split(" / "))
            assert steps == RULES[name], name
