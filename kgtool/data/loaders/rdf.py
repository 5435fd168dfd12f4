"""Reads RDF: labels are IRIs without <>, or blank nodes `_:x`; no literals.

The formats are N-Triples, N-Quads, Turtle, TriG, RDF/XML and JSON-LD. Names of graphs are left out.
"""

from __future__ import annotations

import re

import numpy as np
import pyoxigraph

from kgtool.data.loaders.header import SKIP_OPTION
from kgtool.data.loaders.reading import LOOK, Reading
from kgtool.data.loaders.rows import Rows, no_triples, rows_of
from kgtool.errors import fault
from kgtool.storage.compression import File

_FORMATS = {
    "ntriples": (pyoxigraph.RdfFormat.N_TRIPLES, "N-Triples"),
    "nquads": (pyoxigraph.RdfFormat.N_QUADS, "N-Quads"),
    "turtle": (pyoxigraph.RdfFormat.TURTLE, "Turtle"),
    "trig": (pyoxigraph.RdfFormat.TRIG, "TriG"),
    "rdfxml": (pyoxigraph.RdfFormat.RDF_XML, "RDF/XML"),
    "jsonld": (pyoxigraph.RdfFormat.JSON_LD, "JSON-LD"),
}
# The parser goes on behind a bad statement of these formats.
_RECOVERING = ("ntriples", "nquads", "turtle", "trig")
# Blank nodes with the names that the file gives them.
_WRITTEN = re.compile(rb"_:([^\s<>\"'(){}\[\],;]+)|nodeID\s*=\s*[\"']([^\"']*)")
_NODES = (pyoxigraph.NamedNode, pyoxigraph.BlankNode)
_XML = re.compile(rb"<(\?xml|!|\w+:RDF\b)")
_SAMPLE = 2**14
_MOST_LISTED = 5
# The parser frees nested triples recursively: many thousands of levels would overflow the stack.
# `<<` in literals, IRIs and comments is not a nested triple.
DEEPEST = 100
_TOKENS = re.compile(  # none fails after a long way: an end that is missing is that of the file
    rb"""\"{3}(?:[^\"\\]|\\.|\"{1,2}(?!\"))*(?:\"{3})? | '{3}(?:[^'\\]|\\.|'{1,2}(?!'))*(?:'{3})?
    | \"(?:[^\"\\\n]|\\.)*\"? | '(?:[^'\\\n]|\\.)*'? | <[^<>"{}|^`\s]*> | \#[^\n]*
    | \\. | (?P<open><<) | (?P<close>>>)""",
    re.VERBOSE | re.DOTALL,
)


def read_rdf(file: File, reading: Reading = LOOK) -> Rows:
    """The triples of an RDF file, in the order of its statements.

    Triples whose object is a literal are left out, with a note. An unnamed blank node, as in `[ ]`,
    gets a number within the file: `_:train.ttl#1`.

    Raises:
        DataError: for a file that cannot be parsed; it names the line.
    """
    format = _format_of(file)
    if file.data.count(b"<<") > DEEPEST and _depth(file.data) > DEEPEST:
        problem = f"nested triples, more than {DEEPEST} levels deep"
        raise fault(file.place, problem, "remove them: a nested triple is not an entity")
    found = _WRITTEN.findall(file.data)
    written = {(a or b).rstrip(b".").decode(errors="replace") for a, b in found}
    unnamed: dict[str, str] = {}

    def label(node: object) -> str:
        if isinstance(node, pyoxigraph.NamedNode):
            return node.value
        assert isinstance(node, pyoxigraph.BlankNode)
        if node.value in written:
            return f"_:{node.value}"
        return unnamed.setdefault(node.value, f"_:{file.member}#{len(unnamed) + 1}")

    columns: tuple[list[str], ...] = ([], [], [])
    numbers: list[int] = []
    literals: list[int] = []
    skipped: list[tuple[int, str]] = []
    graphs: set[object] = set()
    statement = 0
    quads = pyoxigraph.parse(file.data, format=_FORMATS[format][0])
    while True:
        try:
            quad = next(quads, None)
        except SyntaxError as error:
            kind = _FORMATS[format][1]
            line, problem = error.lineno or 0, f"not {kind} ({_reason(error)})"
            if reading.skip_bad_lines and format in _RECOVERING:
                skipped.append((line, problem))
                continue
            remedy = "correct the statement"
            if format in _RECOVERING:
                remedy += f", or pass {SKIP_OPTION}"
            raise fault(file.place, problem, remedy, error.lineno) from None
        if quad is None:
            break
        statement += 1
        if not isinstance(quad.object, _NODES) or not isinstance(quad.subject, _NODES):
            literals.append(statement)
            continue
        graphs.add(quad.graph_name)
        numbers.append(statement)
        for column, node in zip(columns, (quad.subject, quad.predicate, quad.object), strict=True):
            column.append(label(node))
    if not numbers:
        why = "the file is empty" if not statement else f"all {statement} objects are literals"
        raise no_triples(file.place, why if not skipped else "all statements are bad")
    notes = []
    if literals:
        shown = ", ".join(map(str, literals[:_MOST_LISTED]))
        more = ", …" if len(literals) > _MOST_LISTED else ""
        kind = "triple" if len(literals) == 1 else "triples"
        notes.append(
            f"{file.place}: {len(literals):,} {kind} with a literal as object left out: "
            f"{'statement' if len(literals) == 1 else 'statements'} {shown}{more}"
        )
    graphs.discard(pyoxigraph.DefaultGraph())
    if graphs:
        names = "name of 1 graph" if len(graphs) == 1 else f"names of {len(graphs):,} graphs"
        notes.append(f"{file.place}: the {names} left out; the triples stay")
    return rows_of(
        columns, np.array(numbers), file.place, "statement", skip_bad=reading.skip_bad_lines,
        notes=tuple(notes), skipped=tuple(skipped),
    )  # fmt: skip


def _format_of(file: File) -> str:
    """The format by the first characters: an ontology (`.owl`) may be RDF/XML or Turtle.

    Raises:
        DataError: for an ontology that is not RDF.
    """
    if file.format != "rdfxml":
        return file.format
    begin = file.data[:_SAMPLE].removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith((b"Prefix(", b"Ontology(")) or (
        re.search(rb"<(\w+:)?Ontology\b", begin) and b"RDF" not in begin.split(b"Ontology")[0]
    ):
        raise fault(
            file.place,
            "an ontology in OWL's own syntax, not in RDF",
            "save it as RDF/XML or Turtle, as by robot convert --input FILE --output FILE.ttl",
        )
    return "rdfxml" if _XML.match(begin) else "turtle"


def _reason(error: SyntaxError) -> str:
    """The parser's message without the position, which the error names."""
    return re.sub(
        r"^Parser error at line \d+ (between columns \d+ and \d+|column \d+): ", "", error.msg
    )


def _depth(data: bytes) -> int:
    """The greatest number of `<<` that are open at once."""
    here = deepest = 0
    for token in _TOKENS.finditer(data):
        here = max(0, here + (token["open"] is not None) - (token["close"] is not None))
        deepest = max(deepest, here)
    return deepest
