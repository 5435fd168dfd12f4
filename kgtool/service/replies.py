"""The bodies of requests and replies of the API, as documented at `/docs` and `/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_TEXT = 2000  # characters
MOST = 100  # items of a list
MOST_TRIPLES = 1000  # triples of a request

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Limit = Annotated[int, Field(ge=1, le=MOST)]


class Reply(BaseModel):
    """A reply; the text below a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Body(BaseModel):
    """The body of a request: unknown fields are refused."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


class Failure(Reply):
    """An error."""

    message: str
    """The problem and the remedy."""


class Health(Reply):
    """The state of the service."""

    status: Literal["ok"]
    """`ok`: the service answers."""


class About(Reply):
    """The run and its data."""

    run: str
    """The name of the run's folder, or of the data on which shipped weights answer."""
    data: str
    """The name of the data set."""
    entities: int
    """The number of entities."""
    relations: int
    """The number of relations, inverses not counted."""
    train: int
    """The number of facts in train, which the model reads."""
    valid: int
    """The number of facts in valid."""
    test: int
    """The number of facts in test."""
    assumed_missing: int
    """The number of facts that the graph is assumed to lack; probabilities are fitted to it."""
    probabilities: bool
    """Whether answers have probabilities: valid is large enough to fit them."""
    explains: bool
    """Whether scores have explanations: only all-paths models do."""
    version: str
    """The version of kgtool."""


class Named(Reply):
    """An entity or a relation."""

    label: str
    """The label, which is exact and unique."""
    name: str
    """The readable name, or the label if there is none."""


class Counted(Named):
    """An entity or a relation with its number of facts."""

    facts: int
    """The number of known facts in all splits."""


class Triple(Reply):
    """A triple, or a query that lacks a part of it."""

    head: str
    """The head, `?` if it is asked for."""
    relation: str
    """The relation: `^r` is the inverse of `r`, `r1/r2` a path; `?` if it is asked for."""
    tail: str
    """The tail, `?` if it is asked for."""


class Query(Triple):
    """A query or a triple, in labels and in names."""

    names: Triple
    """The same in readable names."""


class Examples(Reply):
    """Where to start."""

    queries: list[Query]
    """Some queries about facts of the data."""
    entities: list[Counted]
    """The entities with most facts."""


class KnownAnswer(Named):
    """A known answer to a query."""

    split: str
    """The split that has the fact, or `facts` for a path of known facts."""
    why: Triple | None
    """The triple to pass to `/api/explanation`; null if there is no explanation."""


class Answer(Named):
    """A new answer to a query: it is not in the graph."""

    score: float
    """The model's score. Only the scores of one query can be compared."""
    probability: float | None
    """The probability that the triple is a fact; null for a path, and without a calibration."""
    why: Triple | None
    """The triple to pass to `/api/explanation`; null if there is no explanation."""


class Answers(Reply):
    """The known and the new answers to a query."""

    asked: Literal["head", "relation", "tail"]
    """The part that the query asks for."""
    question: Query
    """The query as it was read."""
    known: list[KnownAnswer]
    """Known answers, those with most facts first."""
    known_count: int
    """The number of all known answers."""
    answers: list[Answer]
    """The best new answers, most probable first, or best score first without probabilities."""
    other_types: int
    """The number of left-out answers of another type with a better score than the last one."""


class Question(Body):
    """A query: two of the three parts, by label or by readable name."""

    head: Text = "?"
    """The head; `?` or left out if it is asked for."""
    relation: Text = "?"
    """The relation; `^r` is the inverse of `r`, `r1/r2` a path; `?` or left out if asked for."""
    tail: Text = "?"
    """The tail; `?` or left out if it is asked for."""


class Questions(Body):
    """Queries to answer."""

    questions: list[Question] = Field(min_length=1, max_length=MOST)
    """The queries."""
    limit: Limit = 10
    """The most new answers, and the most known answers, to each query."""
    any_type: bool = False
    """Whether to include answers of types that the facts speak against."""


class BatchAnswer(Reply):
    """The result of one query of a batch."""

    reply: Answers | None
    """The answers; null if the query could not be answered."""
    message: str | None
    """The problem and the remedy; null if the query was answered."""


class BatchAnswers(Reply):
    """The results of a batch of queries."""

    replies: list[BatchAnswer]
    """One result a query, in their order."""
    failures: int
    """The number of queries that could not be answered."""


class Score(Triple):
    """The score of a triple."""

    names: Triple
    """The triple in readable names."""
    score: float | None
    """The model's score; null if a label is unknown."""
    probability: float | None
    """The probability that the triple is a fact; null if it is known, or without a calibration."""
    split: str | None
    """The split that has the triple, or `facts` for a path of known facts; null for neither."""
    why: Triple | None
    """The triple to pass to `/api/explanation`; null if there is no explanation."""
    reason: str | None
    """Why there is no score; null if there is one."""


class GivenTriple(Body):
    """A triple to score, by labels or by readable names."""

    head: Text
    """The head."""
    relation: Text
    """The relation; `^r` is the inverse of `r`, `r1/r2` a path."""
    tail: Text
    """The tail."""


class Triples(Body):
    """Triples to score."""

    triples: list[GivenTriple] = Field(min_length=1, max_length=MOST_TRIPLES)
    """The triples."""


class Scores(Reply):
    """The scores of triples."""

    scores: list[Score]
    """One score a triple, in their order."""
    failures: int
    """The number of triples without a score."""


class Step(Named):
    """A relation between two entities of a path; `^r` is the inverse of `r`."""

    weight: float
    """Its part of the path's weight."""


class Path(Reply):
    """A path from head to tail."""

    weight: float
    """Its part of the fall, divided among paths over the same edges; negative if it lowers it."""
    fall: float
    """How much the score falls when the edges of the path leave the graph; negative if it rises."""
    entities: list[Named]
    """The entities from head to tail."""
    steps: list[list[Step]]
    """For each step, the relations with the largest contributions, strongest first."""


class Box(Named):
    """The box of an entity."""

    x: float
    """The centre."""
    y: float
    """The centre."""
    width: float
    """Its width."""
    height: float
    """Its height."""
    lines: list[str]
    """The lines of its text."""
    end: bool
    """Whether it is the head or the tail of the triple."""


class Line(Reply):
    """The line of the relations from one entity to another."""

    path: str
    """Its course, as the `d` of an SVG path."""
    stroke: float
    """Its width: a wider line contributes more to the score."""
    lowers: bool
    """Whether it lowers the score."""
    back: bool
    """Whether the arrowhead is at the start of the course."""
    x: float
    """The centre of the text."""
    y: float
    """The centre of the text."""
    lines: list[str]
    """The lines of the text; none for a line from an entity to itself."""
    title: str
    """All relations with their weights, one a line."""


class Drawing(Reply):
    """A drawing of paths as a graph from left to right; sizes are in pixels."""

    width: float
    """Its width."""
    height: float
    """Its height."""
    boxes: list[Box]
    """A box an entity."""
    lines: list[Line]
    """A line a pair of entities."""


class Explanation(Reply):
    """The paths that contribute to a score."""

    head: Named
    """The head."""
    relation: Named
    """The relation."""
    tail: Named
    """The tail."""
    score: float
    """The score, without the triple itself if it is an edge of the graph."""
    carried: float
    """What the listed paths carry of the score: its fall when all their edges leave the graph."""
    embeddings: float | None
    """The embeddings' part of the score; null for a model without embeddings."""
    paths: list[Path]
    """The paths, strongest first."""
    drawing: Drawing | None
    """The paths as a graph; null without paths."""


class Fact(Named):
    """The entity at the other end of a known fact."""

    split: str
    """The split that has the fact."""


class Group(Reply):
    """The known facts of an entity with one relation, in one direction."""

    relation: Named
    """The relation."""
    side: Literal["head", "tail"]
    """Whether the entity is the head or the tail of these facts."""
    count: int
    """The number of these facts."""
    others: list[Fact]
    """The entities at the other end, those with most facts first."""


class EntityFacts(Counted):
    """What the graph says of an entity."""

    types: list[str]
    """Its types, from a table of types or from the data set; empty without them."""
    as_head: int
    """The number of facts with the entity as head."""
    as_tail: int
    """The number of facts with the entity as tail."""
    groups: list[Group]
    """Its facts by relation and side, the largest group first."""
    neighbours: list[Counted]
    """The entities that share most facts with it; `facts` counts the shared ones."""
    neighbours_count: int
    """The number of distinct entities that share a fact with it."""
