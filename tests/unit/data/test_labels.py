"""Labels in user input: readable names, inverse relations, paths, labels with slashes."""

from __future__ import annotations

import pytest

from kgtool.data.dataset import Vocabulary
from kgtool.data.labels import LabelIndex
from kgtool.errors import DataError
from kgtool.inference.query import (
    PathTriple,
    Question,
    parse_question,
    parse_questions,
    parse_triples,
    read_lines,
    refusal,
)

VOCABULARY = Vocabulary(("?x", "Q1", "Q2", "Q3"), ("/a/b", "a", "a/b", "b", "c"))
LABELS = LabelIndex(VOCABULARY, {"Q1": "China", "Q2": "Paris", "Q3": "Paris", "Q9": "Nowhere"})


def test_an_entity_is_its_label_or_the_only_one_of_a_name():
    assert [LABELS.entity(text) for text in ("Q2", "China", "?x")] == [2, 1, 0]
    with pytest.raises(
        DataError,
        match=r"'Paris' is the name of 2 entities. Remedy: use one of the labels 'Q2', 'Q3'",
    ):
        LABELS.entity("Paris")
    with pytest.raises(DataError, match="did you mean 'China'"):
        LABELS.entity("Chima")
    with pytest.raises(
        DataError, match="unknown entity 'Nowhere'"
    ):  # a name of no entity of the data
        LABELS.entity("Nowhere")
    assert LABELS.shown(1) == "China"
    assert LABELS.shown(0) == "?x"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("c", (4,)),
        ("^c", (9,)),
        ("c/^c", (4, 9)),
        ("a/b", (2,)),  # a relation of that name goes before a path
        ("c//a/b", (4, 0)),
        ("/a/b/c", (0, 4)),
        ("b/a/c", (3, 1, 4)),
    ],
)
def test_a_path_is_made_of_labels(text, path):
    assert LABELS.path(text) == path


def test_a_path_that_reads_two_ways_is_refused():
    with pytest.raises(DataError, match="has two readings: c then a/b, or c then a then b"):
        LABELS.path("c/a/b")


@pytest.mark.parametrize("text", ["", "d", "c/", "/c", "c/d"])
def test_a_path_of_unknown_labels_is_refused(text):
    with pytest.raises(DataError, match="unknown relation"):
        LABELS.path(text)


def test_questions():
    assert parse_question(["Q1", "c", "?"], LABELS) == Question("tail", 1, (4,), -1)
    assert parse_question(["?", "c/b", "China"], LABELS) == Question("head", -1, (4, 3), 1)
    assert parse_question(["Q1", "?", "Q2"], LABELS) == Question("relation", 1, (), 2)
    assert parse_question(["Q1", "c", "?"], LABELS).walked(5) == (1, (4,))
    assert parse_question(["?", "c/b", "Q1"], LABELS).walked(5) == (1, (8, 9))


@pytest.mark.parametrize(
    "parts", [["Q1", "c", "Q2"], ["?", "c", "?"], ["Q1", "?"], ["Q1", "c", "?", "?"], []]
)
def test_what_asks_for_no_one_thing_is_refused(parts):
    expected = r"is not a query with one '\?'. Remedy: write HEAD RELATION \?"
    with pytest.raises(DataError, match=expected):
        parse_question(parts, LABELS)


def test_a_file_of_questions(tmp_path):
    file = tmp_path / "questions.tsv"
    file.write_bytes("\ufeffQ1\tc\t?\r\n\r\n?\tb\tChina\n".encode())
    found = parse_questions(read_lines(file), str(file), LABELS)
    assert found.texts == [["Q1", "c", "?"], ["?", "b", "China"]]
    assert [q.asked for q in found.questions] == ["tail", "head"]
    assert (found.number, found.reasons) == ([0, 1], {})
    with pytest.raises(DataError, match="no queries"):
        parse_questions([""], "q.tsv", LABELS)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_lines(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path)


def test_a_file_with_queries_that_cannot_be_read():
    lines = ["", "Q7\tc\t?", "Q1\tc\t?", "Q1", "?\tc\tQ1"]
    found = parse_questions(lines, "q.tsv", LABELS)
    assert found.number == [1, 3]
    assert [question.asked for question in found.questions] == ["tail", "head"]
    assert list(found.reasons) == [0, 2]
    assert found.reasons[0].startswith("q.tsv, line 2: unknown entity 'Q7'")
    assert "q.tsv, line 4: 'Q1' is not a query" in found.reasons[2]
    with pytest.raises(DataError, match=r"q.tsv, line 2: unknown entity 'Q7'"):
        parse_questions(lines, "q.tsv", LABELS, strict=True)
    with pytest.raises(DataError, match=r"q.tsv, line 1: unknown entity 'Q7'"):
        parse_questions(["Q7\tc\t?"], "q.tsv", LABELS)


def test_triples_are_read_as_far_as_their_labels_are_known():
    rows = [("Q1", "^c", "China"), ("Q7", "c", "Q1"), ("Q1", float("nan"), "Q2"), (None, "c", "Q1"),
            ("Q2", "c", "Q1"), ("Q1", "c/x", "Q2"), ("Q1", "c", "twin"),
            ("Q1", "c/^c", "Q2")]  # fmt: skip
    found = parse_triples(rows, LABELS)
    assert found.row.tolist() == [0, 4]
    assert found.ids.tolist() == [[1, 9, 1], [2, 4, 1]]
    assert found.texts[3] == ("", "c", "Q1")
    reasons = ["", "unknown entity 'Q7'", "no relation", "no head", "", "unknown relation 'c/x'"]
    assert found.reasons[:6] == reasons
    assert found.paths == [PathTriple(7, 1, (4, 9), 2)]
    with pytest.raises(DataError, match=r"row 2: .* is not a triple"):
        parse_triples([("Q1", "c", "Q2"), ("Q1", "c")], LABELS)
    with pytest.raises(DataError, match=r"row 1: 'abc' is not a triple"):
        parse_triples(["abc"], LABELS)
    assert str(refusal(found.texts[1], LABELS, "row 2")).startswith("row 2: unknown entity 'Q7'")
    assert parse_triples([], LABELS).ids.shape == (0, 3)
