"""The replies of the API, as documented in `/openapi.json`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Failure(BaseModel):
    """An error: the problem and the remedy."""

    message: str


class About(BaseModel):
    """The run and its data."""

    run: str
    data: str
    entities: int
    relations: int
    train: int
    valid: int
    test: int
    probabilities: bool
    """Whether answers have probabilities: valid is large enough to fit them."""
    explains: bool
    """Whether scores have explanations: only all-paths models do."""
    version: str


class Named(BaseModel):
    """A label, which is exact, and its readable name."""

    label: str
    name: str


class Triple(BaseModel):
    """Labels of a triple; in a query, `?` for the answer, and `r1/r2` for a path."""

    head: str
    relation: str
    tail: str


class Answer(Named):
    """An answer to a query."""

    score: float
    probability: float | None
    """None for a known fact, for a path of several relations, and without a calibration."""
    known: str | None
    """The split that has the fact, `facts` for a path of known facts, None for a new answer."""
    why: Triple | None
    """The triple for `/api/explanation`; None if this score has no explanation."""


class Answers(BaseModel):
    """The best answers to a query, best first."""

    asked: Literal["head", "relation", "tail"]
    question: Triple
    """The parsed query, in labels."""
    names: Triple
    """The parsed query, in readable names."""
    answers: list[Answer]


class Step(BaseModel):
    """A relation between two entities of a path (`^r` for an inverse), and its contribution."""

    relation: str
    name: str
    weight: float


class Path(BaseModel):
    """A path and its contribution to the score; negative if it lowers the score."""

    weight: float
    entities: list[Named]
    steps: list[list[Step]]
    """For each step, the relations with the largest contributions, strongest first."""


class Explanation(BaseModel):
    """The paths that contribute to a score, strongest first."""

    head: Named
    relation: Named
    tail: Named
    paths: list[Path]
