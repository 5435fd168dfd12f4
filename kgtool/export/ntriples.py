"""Predictions with their confidence as N-Triples (RDF 1.1), for graph stores.

An N-Triples line has no place for a number about the statement it makes, so that each prediction is
described by reification (RDF 1.1 Semantics, D.1): a blank node, with

    rdf:type               rdf:Statement
    rdf:subject            the head
    rdf:predicate          the relation
    rdf:object             the tail
    urn:kgtool:score       the model's score, xsd:double
    urn:kgtool:confidence  the probability that the triple holds, xsd:double, where there is one

The triple itself is not stated: a prediction is no fact, and a store that loads the file must not
take it for one. To state those that are sure enough, in SPARQL:

    PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
    INSERT { ?h ?r ?t } WHERE {
      ?p rdf:subject ?h ; rdf:predicate ?r ; rdf:object ?t ; <urn:kgtool:confidence> ?c .
      FILTER (?c > 0.9) }

A label that is an absolute IRI (RFC 3987; `Gene::9606` is one too) stays as it is, and an entity
`_:x` is a blank node. Any other label is percent-encoded behind `urn:kgtool:entity:` or
`urn:kgtool:relation:`; `label_of` takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, serialize

from kgtool.storage.files import atomic_write

# Head, relation and tail as labels, the score, and the probability where there is one.
Prediction = tuple[str, str, str, float, float | None]

OURS = "urn:kgtool:"
ENTITY = f"{OURS}entity:"
RELATION = f"{OURS}relation:"
SCORE = NamedNode(f"{OURS}score")
CONFIDENCE = NamedNode(f"{OURS}confidence")

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TYPE = NamedNode(f"{_RDF}type")
_STATEMENT = NamedNode(f"{_RDF}Statement")
_SUBJECT = NamedNode(f"{_RDF}subject")
_PREDICATE = NamedNode(f"{_RDF}predicate")
_OBJECT = NamedNode(f"{_RDF}object")
_NODE = "prediction"  # what the name of a prediction's own blank node begins with


def write_predictions(out: str | Path | BinaryIO, rows: Iterable[Prediction]) -> None:
    """Write predictions as N-Triples, one after another as they come.

    Args:
        out: the file to write, whole or not at all, or one that is open for bytes.
        rows: `(head, relation, tail, score, probability or None)` each, labels as text.

    Raises:
        KGToolError: when the file cannot be written.
    """
    if isinstance(out, (str, Path)):
        with atomic_write(out, "wb") as file:
            write_predictions(file, rows)
    else:
        serialize(_triples(rows), out, RdfFormat.N_TRIPLES)


def label_of(term: NamedNode | BlankNode) -> str:
    """The label that a head, relation or tail was written for."""
    if isinstance(term, BlankNode):
        doubled = term.value.startswith(2 * _NODE)
        return "_:" + (term.value.removeprefix(_NODE) if doubled else term.value)
    for base in (ENTITY, RELATION):
        if term.value.startswith(base):
            return unquote(term.value.removeprefix(base), errors="surrogatepass")
    return term.value


def _triples(rows: Iterable[Prediction]) -> Iterator[Triple]:
    for number, (head, relation, tail, score, probability) in enumerate(rows):
        node = BlankNode(f"{_NODE}{number}")
        yield Triple(node, _TYPE, _STATEMENT)
        yield Triple(node, _SUBJECT, _entity(head))
        yield Triple(node, _PREDICATE, _iri(relation, RELATION))
        yield Triple(node, _OBJECT, _entity(tail))
        yield Triple(node, SCORE, Literal(float(score)))
        if probability is not None:
            yield Triple(node, CONFIDENCE, Literal(float(probability)))


def _entity(label: str) -> NamedNode | BlankNode:
    if label.startswith("_:") and label != "_:":
        name = label.removeprefix("_:")
        # Doubled, so that no entity is taken for one of our own nodes.
        ours = _NODE if name.startswith(_NODE) else ""
        try:
            return BlankNode(ours + name)
        except ValueError:  # no blank node's name, then: a label like any other
            pass
    return _iri(label, ENTITY)


def _iri(label: str, base: str) -> NamedNode:
    if not label.startswith(OURS):  # or two labels could come to the same IRI
        try:
            return NamedNode(label)
        except ValueError:  # no absolute IRI
            pass
    return NamedNode(base + quote(label, safe="", errors="surrogatepass"))
