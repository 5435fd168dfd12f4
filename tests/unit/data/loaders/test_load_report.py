"""The load report: all counts, compared with a loop, and its text."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from kgtool.data.dataset import SPLITS, Vocabulary
from kgtool.data.loaders import LoadReport, load_with_report

Triple = tuple[str, str, str]


def load(
    folder: Path, train: str, valid: str, test: str, *, vocabulary: Vocabulary | None = None
) -> LoadReport:
    """The load report of splits that are given as `"a r b, b r c"`."""
    folder.mkdir(exist_ok=True)
    for split, triples in {"train": train, "valid": valid, "test": test}.items():
        lines = ["\t".join(triple.split()) for triple in triples.split(",")]
        (folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return load_with_report(folder, vocabulary)[1]


TRAIN = "a r b, b r c, a r b, c r c, a s b, b r c, a r b"
VALID = "b s a, a q b, x r a, c r c, d q x, c s c"
TEST = "a r b, x r a, a r b, b r b, c r b, y r y"


def printed(report: LoadReport, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(report.render())
    return capture.get()


def test_every_finding_has_its_count_and_lines(tmp_path: Path) -> None:
    report = load(tmp_path / "kg", TRAIN, VALID, TEST)
    assert report.to_dict() == {
        "bad_lines": [],
        "name": "kg",
        "source": str(tmp_path / "kg"),
        "triples": 15,
        "entities": 6,
        "relations": 3,
        "train": {
            "file": "train.txt",
            "triples": 4,
            "entities": 3,
            "relations": 2,
            "unit": "line",
            "duplicates": {"count": 3, "first": [3, 6, 7]},
            "self_loops": {"count": 1, "first": [4]},
            "unseen_entities": {"count": 0, "first": [], "triples": {"count": 0, "first": []}},
            "unseen_relations": {"count": 0, "first": [], "triples": {"count": 0, "first": []}},
            "in_train": {"count": 0, "first": []},
            "in_valid": {"count": 0, "first": []},
            "reversed_in_train": {"count": 0, "first": []},
            "same_pair_in_train": {"count": 0, "first": []},
        },
        "valid": {
            "file": "valid.txt",
            "triples": 6,
            "entities": 5,
            "relations": 3,
            "unit": "line",
            "duplicates": {"count": 0, "first": []},
            "self_loops": {"count": 2, "first": [4, 6]},
            "unseen_entities": {
                "count": 2,
                "first": ["x", "d"],
                "triples": {"count": 2, "first": [3, 5]},
            },
            "unseen_relations": {
                "count": 1,
                "first": ["q"],
                "triples": {"count": 2, "first": [2, 5]},
            },
            "in_train": {"count": 1, "first": [4]},
            "in_valid": {"count": 0, "first": []},
            "reversed_in_train": {"count": 1, "first": [1]},
            "same_pair_in_train": {"count": 2, "first": [2, 6]},
        },
        "test": {
            "file": "test.txt",
            "triples": 5,
            "entities": 5,
            "relations": 1,
            "unit": "line",
            "duplicates": {"count": 1, "first": [3]},
            "self_loops": {"count": 2, "first": [4, 6]},
            "unseen_entities": {
                "count": 2,
                "first": ["x", "y"],
                "triples": {"count": 2, "first": [2, 6]},
            },
            "unseen_relations": {"count": 0, "first": [], "triples": {"count": 0, "first": []}},
            "in_train": {"count": 1, "first": [1]},
            "in_valid": {"count": 1, "first": [2]},
            "reversed_in_train": {"count": 1, "first": [5]},
            "same_pair_in_train": {"count": 1, "first": [1]},
        },
        "redundancy": {"twins": 0, "first_twins": [], "symmetric": 0, "first_symmetric": []},
        "notes": [],
        "near_equal": [],
        "column_doubt": "",
        "warnings": [
            "train.txt: 3 duplicate lines dropped: lines 3, 6, 7",
            "train.txt: 1 self loop: line 4",
            "valid.txt: 2 self loops: lines 4, 6",
            "valid.txt: 2 triples with 2 entities unseen in train ('x', 'd'): lines 3, 5",
            "valid.txt: 2 triples with 1 relation unseen in train ('q'): lines 2, 5",
            "valid.txt: 1 triple also in train: line 4",
            "valid.txt: 1 triple reversed in train: line 1",
            "valid.txt: 2 triples whose pair has another relation in train: lines 2, 6",
            "test.txt: 1 duplicate line dropped: line 3",
            "test.txt: 2 self loops: lines 4, 6",
            "test.txt: 2 triples with 2 entities unseen in train ('x', 'y'): lines 2, 6",
            "test.txt: 1 triple also in train: line 1",
            "test.txt: 1 triple also in valid: line 2",
            "test.txt: 1 triple reversed in train: line 5",
            "test.txt: 1 triple whose pair has another relation in train: line 1",
        ],
    }


def test_the_report_survives_json(tmp_path: Path) -> None:
    report = load(tmp_path, TRAIN, VALID, TEST).to_dict()
    assert json.loads(json.dumps(report)) == report


labels = st.sampled_from("abcde")
relations = st.sampled_from("rst")
triple_lists = st.lists(st.tuples(labels, relations, labels), min_size=1, max_size=25)


def numbered(triples: list[Triple]) -> dict[Triple, int]:
    """The line number of the first occurrence of each triple."""
    first: dict[Triple, int] = {}
    for number, triple in enumerate(triples, 1):
        first.setdefault(triple, number)
    return first


@settings(max_examples=100, deadline=None)
@given(splits=st.tuples(triple_lists, triple_lists, triple_lists), given_ids=st.booleans())
def test_every_count_agrees_with_a_loop(
    splits: tuple[list[Triple], list[Triple], list[Triple]], given_ids: bool
) -> None:
    vocabulary = Vocabulary(("e", "x", "d", "c", "a", "b"), ("t", "s", "y", "r"))
    written = (", ".join(" ".join(triple) for triple in triples) for triples in splits)
    with tempfile.TemporaryDirectory() as folder:
        report = load(Path(folder), *written, vocabulary=vocabulary if given_ids else None)
    train, valid, _ = (numbered(triples) for triples in splits)
    seen = {label for h, _, t in train for label in (h, t)}
    for position, (found, triples) in enumerate(zip(report.splits, splits, strict=True)):
        distinct = numbered(triples)
        entities = {label for h, _, t in distinct for label in (h, t)}
        assert found.triples == len(distinct)
        assert found.entities == len(entities)
        assert found.relations == len({r for _, r, _ in distinct})
        first_lines = set(distinct.values())
        repeated = [n for n in range(1, len(triples) + 1) if n not in first_lines]
        assert (found.duplicates.count, list(found.duplicates.first)) == (
            len(repeated),
            repeated[:5],
        )
        beside_train = distinct if position else {}
        beside_valid = distinct if position == 2 else {}
        for lines, expected in (
            (found.self_loops, [n for (h, _, t), n in distinct.items() if h == t]),
            (found.in_train, [n for triple, n in beside_train.items() if triple in train]),
            (found.in_valid, [n for triple, n in beside_valid.items() if triple in valid]),
            (
                found.reversed_in_train,
                [
                    n
                    for (h, _, t), n in beside_train.items()
                    if h != t and any(a == t and b == h for a, _, b in train)
                ],
            ),
            (
                found.same_pair_in_train,
                [
                    n
                    for (h, r, t), n in beside_train.items()
                    if any(a == h and b == t and s != r for a, s, b in train)
                ],
            ),
            (
                found.unseen_entities.triples,
                [n for (h, _, t), n in distinct.items() if not {h, t} <= seen],
            ),
            (
                found.unseen_relations.triples,
                [n for (_, r, _), n in distinct.items() if r not in {s for _, s, _ in train}],
            ),
        ):
            assert (lines.count, list(lines.first)) == (len(expected), expected[:5])
        assert found.unseen_entities.count == len(entities - seen)
        in_order = [label for h, _, t in distinct for label in (h, t) if label not in seen]
        assert list(found.unseen_entities.first) == list(dict.fromkeys(in_order))[:5]


def test_a_given_vocabulary_does_not_count_as_seen(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("a", "b", "c", "unused"), ("r", "unused"))
    report = load(tmp_path, "a r b", "a r c", "b r a", vocabulary=vocabulary)
    assert (report.entities, report.relations) == (3, 1)
    assert report.valid.unseen_entities.first == ("c",)


def test_the_printed_report(tmp_path: Path) -> None:
    report = load(tmp_path / "kg", TRAIN, VALID, f"{TEST}, y r z")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in printed(report).splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["triples", "4", "6", "6", "16"],
        ["entities", "3", "5", "6", "7"],
        ["relations", "2", "3", "1", "3"],
        ["duplicate lines dropped", "3", "0", "1", "4"],
        ["self loops", "1", "2", "2", "5"],
        ["entities unseen in train", "", "2", "3", "4"],
        ["- triples with them", "", "2", "3", "5"],
        ["relations unseen in train", "", "1", "0", "1"],
        ["- triples with them", "", "2", "0", "2"],
        ["triples also in train", "", "1", "1", "2"],
        ["triples also in valid", "", "", "1", "1"],
        ["triples reversed in train", "", "1", "1", "2"],
        ["pair in train, other relation", "", "2", "1", "3"],
    ]
    text = printed(report)
    assert text.startswith("Load report of kg")
    for warning in report.warnings:
        assert f"- {warning}" in printed(report, width=200)


def test_the_printed_report_fits_80_columns(tmp_path: Path) -> None:
    many = ", ".join(f"e{i} r e{i}" for i in range(1200))
    text = printed(load(tmp_path / "kg", many, many, f"{'x' * 90} r y"))
    assert max(map(len, text.splitlines())) <= 80
    assert "1,200" in text
    assert "2, 3, 4, 5, …" in text
    assert "x" * 60 not in text


def test_the_printed_report_is_safe_whatever_the_labels(tmp_path: Path) -> None:
    label = "[red]:smile:[/blue]\x1b[31m"
    text = printed(load(tmp_path / "[bold]kg", "a r b", f"a r {label}", "a r b"), width=200)
    assert "Load report of [bold]kg" in text
    assert "'[red]:smile:[/blue]\\x1b[31m'" in text
    assert "\x1b" not in text


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    report = load(tmp_path, "a r b, b r c, c r d", "a r c", "a r d")
    assert report.warnings == ()
    assert printed(report).endswith("\nno warnings\n")


def test_splits_are_in_order(tmp_path: Path) -> None:
    report = load(tmp_path, "a r b", "a r c", "a r d")
    assert [split.file for split in report.splits] == [f"{split}.txt" for split in SPLITS]
