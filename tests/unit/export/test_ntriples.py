"""Predictions as N-Triples, read back by an RDF parser."""

import io
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Store, parse

from kgtool.errors import KGToolError
from kgtool.export import ntriples
from kgtool.export.ntriples import Prediction, label_of, write_predictions

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DOUBLE = NamedNode("http://www.w3.org/2001/XMLSchema#double")
ROWS: list[Prediction] = [
    ("http://example.org/Berlin", "capital of", "/m/0345h", 2.5, 0.75),
    ("_:b0", "Gene::9606", "", -1e-40, None),
]
WRITTEN = (
    """\
_:prediction0 <RDFtype> <RDFStatement> .
_:prediction0 <RDFsubject> <http://example.org/Berlin> .
_:prediction0 <RDFpredicate> <urn:kgtool:relation:capital%20of> .
_:prediction0 <RDFobject> <urn:kgtool:entity:%2Fm%2F0345h> .
_:prediction0 <urn:kgtool:score> "2.5"^^<DOUBLE> .
_:prediction0 <urn:kgtool:confidence> "0.75"^^<DOUBLE> .
""".replace("RDF", RDF, 4)
    .replace("<RDF", f"<{RDF}")
    .replace("DOUBLE", DOUBLE.value)
)


def written(rows: list[Prediction]) -> bytes:
    file = io.BytesIO()
    write_predictions(file, rows)
    return file.getvalue()


def read(data: bytes) -> list[Prediction]:
    """Parse N-Triples; returns the predictions in the order of their nodes."""
    nodes: dict[BlankNode, dict[str, NamedNode | BlankNode | Literal]] = {}
    for quad in parse(data, RdfFormat.N_TRIPLES):
        assert isinstance(quad.subject, BlankNode)
        told = nodes.setdefault(quad.subject, {})
        assert quad.predicate.value not in told
        assert isinstance(quad.object, (NamedNode, BlankNode, Literal))
        told[quad.predicate.value] = quad.object
    rows = []
    for told in nodes.values():
        assert told.pop(f"{RDF}type") == NamedNode(f"{RDF}Statement")
        terms = [told.pop(RDF + part) for part in ("subject", "predicate", "object")]
        labels = [label_of(term) for term in terms if not isinstance(term, Literal)]
        score, probability = told.pop("urn:kgtool:score"), told.pop("urn:kgtool:confidence", None)
        assert not told
        head, relation, tail = labels
        rows.append((head, relation, tail, number(score), probability and number(probability)))
    return rows


def number(term: object) -> float:
    assert isinstance(term, Literal)
    assert term.datatype == DOUBLE
    return float(term.value)


def test_the_lines():
    assert written(ROWS[:1]).decode() == WRITTEN


def test_a_prediction_without_a_probability_and_a_blank_node():
    lines = written(ROWS).decode().splitlines()[6:]
    assert lines[1:4] == [
        f"_:prediction1 <{RDF}subject> _:b0 .",
        f"_:prediction1 <{RDF}predicate> <Gene::9606> .",
        f"_:prediction1 <{RDF}object> <urn:kgtool:entity:> .",
    ]
    assert len(lines) == 5
    assert read(written(ROWS)) == ROWS


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("http://dbpedia.org/resource/Köln", "<http://dbpedia.org/resource/Köln>"),
        ("urn:isbn:0", "<urn:isbn:0>"),
        ("http://a b/", "<urn:kgtool:entity:http%3A%2F%2Fa%20b%2F>"),
        ("x:%zz", "<urn:kgtool:entity:x%3A%25zz>"),
        ("<x:y>", "<urn:kgtool:entity:%3Cx%3Ay%3E>"),
        ('"a"\n\\', "<urn:kgtool:entity:%22a%22%0A%5C>"),
        ("日", "<urn:kgtool:entity:%E6%97%A5>"),
        # What the writer makes of another label, or of a prediction, is no such thing itself.
        ("urn:kgtool:entity:a", "<urn:kgtool:entity:urn%3Akgtool%3Aentity%3Aa>"),
        ("_:prediction0", "_:predictionprediction0"),
        ("_:predictionprediction0", "_:predictionpredictionprediction0"),
        ("_:a b", "<urn:kgtool:entity:_%3Aa%20b>"),
        ("_:", "<urn:kgtool:entity:_%3A>"),
    ],
)
def test_labels_as_terms(label, term):
    lines = written([(label, "r", label, 0.0, None)]).decode().split("\n")
    assert lines[1] == f"_:prediction0 <{RDF}subject> {term} ."
    assert lines[3] == f"_:prediction0 <{RDF}object> {term} ."


def test_a_relation_is_no_blank_node():
    assert b"<urn:kgtool:relation:_%3Ar> ." in written([("a", "_:r", "b", 0.0, None)])


PIECES = [
    "a",
    " ",
    "%",
    "%41",
    ":",
    "_:",
    "urn:kgtool:entity:",
    "http://x/",
    "prediction",
    '"',
    "日",
]
LABELS = (
    st.text(max_size=6)
    | st.text(st.characters(codec=None), max_size=4)  # with halves of surrogate pairs
    | st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
)
NUMBERS = st.floats(allow_nan=False)


@given(st.lists(st.tuples(LABELS, LABELS, LABELS, NUMBERS, st.none() | NUMBERS), max_size=4))
@example([("a", "r", "urn:kgtool:entity:a", -0.0, 5e-324), ("_:a", "_:a", "_:", 1e308, None)])
@example([("_::", "r", "_:a:b", 0.0, None)])
def test_any_predictions_read_back(rows):
    found = read(written(rows))
    assert found == rows
    # 0.0 == -0.0, but their bits differ
    assert [struct.pack("d", row[3]) for row in found] == [struct.pack("d", r[3]) for r in rows]


@given(st.lists(LABELS, unique=True, min_size=2, max_size=8))
def test_two_labels_are_two_terms(labels):
    lines = written([(label, "r", "x", 0.0, None) for label in labels]).decode().split("\n")
    assert len({line.split(" ", 1)[1] for line in lines if "#subject>" in line}) == len(labels)


def test_a_store_holds_no_predicted_triple_but_can_state_the_sure_ones(tmp_path):
    """The SPARQL query is the one in the module's docstring."""
    path = tmp_path / "new" / "predictions.nt"
    write_predictions(path, ROWS)
    store = Store()
    store.load(path=str(path))
    berlin = NamedNode("http://example.org/Berlin")
    assert not list(store.quads_for_pattern(berlin, None, None))
    said = ntriples.__doc__ or ""
    update = said[said.index("PREFIX") : said.index("}\n\n") + 1]
    store.update(update)
    assert not list(store.quads_for_pattern(berlin, None, None))
    store.update(update.replace("0.9", "0.7"))
    (fact,) = store.quads_for_pattern(berlin, None, None)
    assert isinstance(fact.object, NamedNode)
    assert (label_of(fact.predicate), label_of(fact.object)) == ("capital of", "/m/0345h")


def test_rows_are_written_as_they_come():
    class Counting(io.BytesIO):
        def write(self, data) -> int:
            lengths.append(seen)
            return super().write(data)

    seen = 0
    lengths: list[int] = []

    def rows() -> Iterator[Prediction]:
        nonlocal seen
        for seen in range(1000):
            yield ("a", "r", "b", seen / 7, 0.5)

    write_predictions(Counting(), rows())
    assert lengths[0] < 100
    assert len(lengths) > 10


def test_what_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "predictions.nt"
    write_predictions(path, ROWS)
    before = path.read_bytes()

    def broken() -> Iterator[Prediction]:
        yield ROWS[0]
        raise RuntimeError("the model stopped")

    with pytest.raises(RuntimeError, match="the model stopped"):
        write_predictions(path, broken())
    with pytest.raises(KGToolError, match=r"cannot write .*: it is a folder"):
        write_predictions(tmp_path, ROWS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KGToolError, match=r"cannot write .*: No space left on device"):
        write_predictions(path, ROWS[:1])
    assert path.read_bytes() == before == written(ROWS)
    assert list(tmp_path.iterdir()) == [path]
