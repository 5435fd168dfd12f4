"""Answers and explanations of a run as replies of the API."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence

from kgtool.data.labels import LabelIndex
from kgtool.errors import ConfigError
from kgtool.inference.explain import NamedPath, main_relations
from kgtool.inference.predictor import Predictor
from kgtool.inference.query import ASKED, Question, parse_question
from kgtool.service import replies

LONGEST_PATH = 5


def about(predictor: Predictor) -> replies.About:
    """The run and its data."""
    dataset = predictor.dataset
    return replies.About(
        run=predictor.run.path.resolve().name,
        data=dataset.name,
        entities=dataset.num_entities,
        relations=dataset.num_relations,
        train=len(dataset.train),
        valid=len(dataset.valid),
        test=len(dataset.test),
        probabilities=predictor.probability() is not None,
        explains=predictor.scorer.passes is not None,
        version=importlib.metadata.version("kgtool"),
    )


def named(label: str, labels: LabelIndex) -> replies.Named:
    """A label and its readable name."""
    return replies.Named(label=label, name=name_of(label, labels))


def name_of(label: str, labels: LabelIndex) -> str:
    """The readable name of a label; that of `^r` is `^` and the name of `r`."""
    if label not in labels.names and label.startswith("^"):
        return "^" + labels.names.get(label[1:], label[1:])
    return labels.names.get(label, label)


def answer(
    predictor: Predictor, parts: Sequence[str], top: int, new: bool, typed: bool
) -> replies.Answers:
    """The best answers to a query, see `Predictor.ask`.

    Args:
        predictor: answers the query.
        parts: head, relation and tail, one of them `?`.
        top, new, typed: as for `Predictor.ask`.

    Raises:
        ConfigError: unless there is exactly one `?`; for a path that is too long.
        DataError: for an unknown label.
    """
    labels = predictor.labels
    if list(parts).count(ASKED) != 1:
        raise ConfigError(
            "a query has one '?'. Remedy: leave exactly one of head, relation and tail empty."
        )
    _short_enough(parts[1], labels)
    question = parse_question(parts, labels)
    if len(question.path) > LONGEST_PATH:
        raise ConfigError(_TOO_LONG)
    entities, steps = labels.vocabulary.entities, labels.vocabulary.steps
    head = ASKED if question.asked == "head" else entities[question.head]
    tail = ASKED if question.asked == "tail" else entities[question.tail]
    path = [steps[r] for r in question.path]
    table = predictor.ask([question], top, new, typed)
    return replies.Answers(
        asked=question.asked,
        question=replies.Triple(head=head, relation="/".join(path) or ASKED, tail=tail),
        names=replies.Triple(
            head=name_of(head, labels),
            relation="/".join(name_of(step, labels) for step in path) or ASKED,
            tail=name_of(tail, labels),
        ),
        answers=[
            replies.Answer(
                label=getattr(row, question.asked),
                name=name_of(getattr(row, question.asked), labels),
                score=row.score,
                probability=None if math.isnan(row.probability) else row.probability,
                known=row.known or None,
                why=_why(predictor, question, (row.head, row.relation, row.tail)),
            )
            for row in table.itertuples()
        ],
    )


def _why(
    predictor: Predictor, question: Question, triple: tuple[str, str, str]
) -> replies.Triple | None:
    """The triple to explain an answer; for a head, the inverse triple from the tail."""
    if len(question.path) > 1 or predictor.scorer.passes is None:
        return None
    head, relation, tail = triple
    if question.asked == "head":
        names = predictor.labels.vocabulary
        _, (back,) = question.walked(len(names.relations))
        head, relation, tail = tail, names.steps[back], head
    return replies.Triple(head=head, relation=relation, tail=tail)


def explanation(
    predictor: Predictor, head: str, relation: str, tail: str, top: int
) -> replies.Explanation:
    """The paths that contribute to a triple's score, see `Predictor.explain`.

    Raises:
        RunError: if the run's model has no paths to show.
        DataError: for an unknown label.
    """
    labels = predictor.labels
    result = predictor.explain(head, relation, tail, top)
    first, step, last = (named(label, labels) for label in result.triple)
    paths = [_path(path, labels) for path in result.paths]
    return replies.Explanation(head=first, relation=step, tail=last, paths=paths)


def _path(path: NamedPath, labels: LabelIndex) -> replies.Path:
    steps = []
    for step in path.steps:
        main = set(main_relations(step))
        steps.append(
            [
                replies.Step(relation=label, name=name_of(label, labels), weight=weight)
                for label, weight in step
                if label in main
            ]
        )
    entities = [named(label, labels) for label in path.entities]
    return replies.Path(weight=path.weight, entities=entities, steps=steps)


_TOO_LONG = f"the path is too long. Remedy: use at most {LONGEST_PATH} relations."


def _short_enough(path: str, labels: LabelIndex) -> None:
    """Refuse a path with too many slashes, before all its readings are tried."""
    most = max((label.count("/") for label in labels.vocabulary.relations), default=0)
    if path.count("/") > LONGEST_PATH * (most + 1) - 1:
        raise ConfigError(_TOO_LONG)
