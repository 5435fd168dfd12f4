"""Labels that differ only in blanks, in Unicode form, or in case."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.data.loaders import Reading, load_dataset, load_negatives, load_with_report
from kgtool.data.loaders.near_equal import keys_of, near_equal
from kgtool.data.loaders.report import NearEqual

NFC, NFD = "caf\u00e9", "cafe\u0301"


def folder_of(place: Path, train: str, others: str = "a r b\n", sep: str = " ") -> Path:
    place.mkdir()
    for name, text in (("train", train), ("valid", others), ("test", others)):
        (place / f"{name}.tsv").write_text(text.replace(sep, "\t"))
    return place


def test_each_kind_is_reported_with_counts_and_remedy(tmp_path):
    train = f"a|r|b\na|r|b \nA|r|c\n{NFC}|r|c\n{NFC}|r|a\n{NFD}|r|a\na|R|c\na\u00a0|r|b\n"
    report = load_with_report(folder_of(tmp_path / "kg", train, "a|r|b\n", "|"))[1]
    found = {(one.kind, one.by): one for one in report.near_equal}
    assert set(found) == {
        ("entity", "blanks"), ("entity", "unicode"), ("entity", "case"), ("relation", "case"),
    }  # fmt: skip
    blanks = found["entity", "blanks"]
    assert blanks.groups == 2
    assert blanks.first == ((("a", 5), ("a\u00a0", 1)), (("b", 2), ("b ", 1)))
    assert found["entity", "unicode"].first == (((NFC, 2), (NFD, 1)),)
    assert found["relation", "case"].first == ((("r", 7), ("R", 1)),)
    warnings = " ".join(report.warnings)
    assert "'a' (5) and 'a\\xa0' (1); 'b' (2) and 'b ' (1)" in warnings
    assert "'caf\\xe9' (2) and 'cafe\\u0301' (1)" in warnings
    for by in ("blanks", "unicode", "case"):
        assert f"pass --merge-labels {by} to kgtool data convert or split" in warnings


@pytest.mark.parametrize(
    ("by", "entities"),
    [
        ("blanks", {"a", "A", "b", "c", NFC, NFD}),
        ("unicode", {"a", "A", "b", "c", NFC}),
        ("case", {"a", "b", "c", NFC}),
    ],
)
def test_the_most_frequent_label_stays(tmp_path, by, entities):
    train = f"a|r|b\na|r|b \nA|r|c\n{NFC}|r|c\n{NFC}|r|a\n{NFD}|r|a\na\u00a0|r|b\n"
    place = folder_of(tmp_path / "kg", train, "a|r|b\n", "|")
    (place / "valid_negatives.tsv").write_text("a\u00a0\tr\tc\n")
    reading = Reading(merge_labels=by)
    data, report = load_with_report(place, reading=reading)
    assert set(data.vocabulary.entities) == entities
    assert data.vocabulary.relations == ("r",)
    assert any("merged with near-equal ones" in note for note in report.notes)
    negatives = load_negatives(place, data.vocabulary, reading)["valid"].tolist()
    assert [data.vocabulary.entities[i] for i in (negatives[0][0], negatives[0][2])] == ["a", "c"]


def test_cells_of_a_csv_are_stripped_and_those_of_a_tsv_are_not(tmp_path):
    (tmp_path / "g.csv").write_text("head, relation, tail\na, r, b\nb, r, a\na, r, c\nc , r, b\n")
    data, report = load_with_report(tmp_path / "g.csv")
    assert data.vocabulary.entities == ("a", "b", "c")
    assert f"{tmp_path / 'g.csv'}: blanks around 9 cells removed" in report.notes
    assert report.near_equal == ()
    place = folder_of(tmp_path / "kg", "a|r| b\nb|r|a\n", "a|r|b\n", "|")
    assert load_dataset(place).vocabulary.entities == (" b", "a", "b")


def slow_key(label: str, by: str) -> str:
    bare = "".join(c for c in label if c not in "\u200b\u2060\ufeff\u00ad")
    key = " ".join(
        "".join(" " if c in "\t\n\x0c\r" or unicodedata.category(c)[0] == "Z" else c for c in bare)
        .strip().split(" ")
    )  # fmt: skip
    while "  " in key:
        key = key.replace("  ", " ")
    if by != "blanks":
        key = unicodedata.normalize("NFC", key)
    return key.lower() if by == "case" else key


letters = st.text(st.sampled_from("aAbé e\u0301\u00a0\u2003\u200bÅ\u212bs"), max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(letters, unique=True, min_size=1, max_size=12), st.integers(0, 3))
def test_keys_are_those_of_a_loop(labels, least):
    for by in ("blanks", "unicode", "case"):
        assert keys_of(labels, by).to_pylist() == [slow_key(label, by) for label in labels]
    counts = np.arange(least, least + len(labels))
    used = [label for label, count in zip(labels, counts, strict=True) if count]
    found = {one.by: one.groups for one in near_equal(labels, counts, "entity")}
    before = {label: label for label in used}
    for by in ("blanks", "unicode", "case"):
        groups: dict[str, set[str]] = {}
        for label in used:
            groups.setdefault(slow_key(label, by), set()).add(before[label])
        assert found.get(by, 0) == sum(len(group) > 1 for group in groups.values())
        before = {label: slow_key(label, by) for label in used}


def test_a_warning_names_as_many_groups_as_it_shows():
    first = tuple(((f"a{i}", 2), (f"A{i}", 1)) for i in range(5))
    text = NearEqual("entity", "case", 7, first).warning
    assert text.startswith("7 groups of entities differ only in case")
    assert "; …. If they are the same" in text
