"""Reads N-Triples and Turtle: labels are IRIs without <>, or blank nodes `_:x`; no literals."""

from __future__ import annotations

import re

import numpy as np
import pyoxigraph

from kgtool.data.loaders.rows import Rows, no_triples, rows_of
from kgtool.errors import fault
from kgtool.storage.compression import File

_FORMATS = {
    "ntriples": pyoxigraph.RdfFormat.N_TRIPLES,
    "turtle": pyoxigraph.RdfFormat.TURTLE,
}
_WRITTEN = re.compile(rb"_:([^\s<>\"'(){}\[\],;]+)")
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


def read_rdf(file: File) -> Rows:
    """The triples of an N-Triples or Turtle file, in the order of its statements.

    Triples whose object is a literal are left out, with a note. An unnamed blank node, as in `[ ]`,
    gets a number within the file: `_:train.ttl#1`.

    Raises:
        DataError: for a file that cannot be parsed; it names the line.
    """
    if file.data.count(b"<<") > DEEPEST and _depth(file.data) > DEEPEST:
        problem = f"nested triples, more than {DEEPEST} levels deep"
        raise fault(file.place, problem, "remove them: a nested triple is not an entity")
    written = {name.rstrip(b".").decode(errors="replace") for name in _WRITTEN.findall(file.data)}
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
    statement = 0
    try:
        for statement, triple in enumerate(
            pyoxigraph.parse(file.data, format=_FORMATS[file.format]), 1
        ):
            if not isinstance(triple.object, (pyoxigraph.NamedNode, pyoxigraph.BlankNode)):
                literals.append(statement)
                continue
            numbers.append(statement)
            for column, node in zip(
                columns, (triple.subject, triple.predicate, triple.object), strict=True
            ):
                column.append(label(node))
    except SyntaxError as error:
        raise fault(
            file.place,
            f"not {'N-Triples' if file.format == 'ntriples' else 'Turtle'} ({error.msg})",
            "correct the statement",
            error.lineno,
        ) from None
    if not numbers:
        why = "the file is empty" if not statement else f"all {statement} objects are literals"
        raise no_triples(file.place, why)
    notes = []
    if literals:
        shown = ", ".join(map(str, literals[:_MOST_LISTED]))
        more = ", …" if len(literals) > _MOST_LISTED else ""
        kind = "triple" if len(literals) == 1 else "triples"
        notes.append(
            f"{file.place}: {len(literals):,} {kind} with a literal as object left out: "
            f"{'statement' if len(literals) == 1 else 'statements'} {shown}{more}"
        )
    return rows_of(
        columns, np.array(numbers), file.place, "statement", extra=None, notes=tuple(notes)
    )


def _depth(data: bytes) -> int:
    """The greatest number of `<<` that are open at once."""
    here = deepest = 0
    for token in _TOKENS.finditer(data):
        here = max(0, here + (token["open"] is not None) - (token["close"] is not None))
        deepest = max(deepest, here)
    return deepest
