"""What the API says, as `/openapi.json` documents it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Failure(BaseModel):
    """Why there is no answer, and the remedy."""

    message: str


class About(BaseModel):
    """The run that is served, and its data."""

    run: str
    data: str
    entities: int
    relations: int
    train: int
    valid: int
    test: int
    probabilities: bool
    """Whether answers have probabilities: valid holds enough to fit them on."""
    explains: bool
    """Whether scores have paths to show: the run reads all paths, not one at a time."""
    version: str


class Named(BaseModel):
    """A label, which names exactly, and what to show for it."""

    label: str
    name: str


class Triple(BaseModel):
    """Labels; of a question, `?` for what is asked, and `r1/r2` for a path."""

    head: str
    relation: str
    tail: str


class Answer(Named):
    """An answer to a question."""

    score: float
    probability: float | None
    """None of what is known, of paths of several relations, and where none could be fitted."""
    known: str | None
    """The split that holds it, `facts` for a path of known facts, None for a new answer."""
    why: Triple | None
    """What to ask `/api/explanation` for, so that it explains this score; None if it cannot."""


class Answers(BaseModel):
    """The best answers to a question, best first."""

    asked: Literal["head", "relation", "tail"]
    question: Triple
    """As it was understood."""
    names: Triple
    """The same, readable."""
    answers: list[Answer]


class Step(BaseModel):
    """A relation between two entities of a path, `^r` walked backwards, and what it carried."""

    relation: str
    name: str
    weight: float


class Path(BaseModel):
    """A path and what it carried of the score, negative where it speaks against."""

    weight: float
    entities: list[Named]
    steps: list[list[Step]]
    """Between each two entities, the relations that carried most, strongest first."""


class Explanation(BaseModel):
    """The paths that carried a score, strongest first."""

    head: Named
    relation: Named
    tail: Named
    paths: list[Path]
