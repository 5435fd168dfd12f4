"""Predictions with their confidence as N-Triples (RDF 1.1), for graph stores.

An N-Triples line cannot hold a number about its own statement. So each prediction is described by
reification (RDF 1.1 Semantics, D.1): a blank node with

    rdf:type               rdf:Statement
    rdf:subject            the head
    rdf:predicate          the relation
    rdf:object             the tail
    urn:kgtool:score       the model's score, xsd:double
    urn:kgtool:confidence  the probability that the triple is true, xsd:double, if there is one

The file does not state the triple itself: a store that loads the file must not treat a prediction
as a fact. This SPARQL adds the triples with a high confidence:

    PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
    INSERT { ?h ?r ?t } WHERE {
      ?p rdf:subject ?h ; rdf:predicate ?r ; rdf:object ?t ; <urn:kgtool:confidence> ?c .
      FILTER (?c > 0.9) }

A label that is an absolute IRI (RFC 3987; `Gene::9606` is one too) stays unchanged, and an entity
`_:x` is a blank node. Any other label is percent-encoded after `urn:kgtool:entity:` or
`urn:kgtool:relation:`; `label_of` decodes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, serialize

from kgtool.storage.files import atomic_write

# Labels of head, relation and tail; score; probability or None.
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
_NODE = "prediction"  # prefix of the blank nodes of predictions


def write_predictions(out: str | Path | BinaryIO, rows: Iterable[Prediction]) -> None:
    """Write predictions as N-Triples, one by one.

    Args:
        out: the output file, written completely or not at all; or an open binary file.
        rows: `(head, relation, tail, score, probability or None)` each, with labels as text.

    Raises:
        KGToolError: if the file cannot be written.
    """
    if isinstance(out, (str, Path)):
        with atomic_write(out, "wb") as file:
            write_predictions(file, rows)
    else:
        serialize(_triples(rows), out, RdfFormat.N_TRIPLES)


def label_of(term: NamedNode | BlankNode) -> str:
    """The label of a head, relation or tail in the file."""
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
    name = label.removeprefix("_:")
    # RDF 1.2 allows no colon in the name of a blank node.
    if label.startswith("_:") and name and ":" not in name:
        # The prefix is doubled, so that no entity is mistaken for a prediction's node.
        ours = _NODE if name.startswith(_NODE) else ""
        try:
            return BlankNode(ours + name)
        except ValueError:  # not a valid name of a blank node: an ordinary label
            pass
    return _iri(label, ENTITY)


def _iri(label: str, base: str) -> NamedNode:
    if not label.startswith(OURS):  # otherwise two labels could get the same IRI
        try:
            return NamedNode(label)
        except ValueError:  # not an absolute IRI
            pass
    return NamedNode(base + quote(label, safe="", errors="surrogatepass"))
