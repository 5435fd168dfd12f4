"""Answers, scores, explanations and facts of a run as replies of the API."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from kgtool.data.dataset import SPLITS
from kgtool.data.facts import FactIndex
from kgtool.data.labels import LabelIndex
from kgtool.errors import ConfigError, DataError
from kgtool.inference.explain import Explanation, NamedPath, main_relations
from kgtool.inference.layout import draw
from kgtool.inference.predictor import Predictor, follow
from kgtool.inference.query import ASKED, Question, parse_question
from kgtool.service import replies

LONGEST_PATH = 5
EXAMPLES = 6


class Asking:
    """Answers questions about a run.

    Args:
        predictor: the run and its data.

    Attributes:
        degree: the number of facts of each entity, in all splits.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.labels = predictor.labels
        dataset = predictor.dataset
        self._types = predictor.given_types or dataset.types
        self._facts = FactIndex(dataset)
        self.degree: list[int] = self._facts.degree.tolist()
        relation = self._facts.triples[:, 1]
        self._uses = torch.bincount(relation, minlength=dataset.num_relations).tolist()

    # Names

    def name(self, label: str) -> str:
        """The readable name of a label; that of `^r` is `^` and the name of `r`."""
        names = self.labels.names
        if label not in names and label.startswith("^"):
            return "^" + names.get(label[1:], label[1:])
        return names.get(label, label)

    def named(self, label: str) -> replies.Named:
        """A label and its readable name."""
        return replies.Named(**self._text(label))

    def _text(self, label: str) -> dict[str, Any]:
        return {"label": label, "name": self.name(label)}

    def entity(self, entity: int, facts: int | None = None) -> replies.Counted:
        """An entity with its number of facts, or another number."""
        label = self.labels.vocabulary.entities[entity]
        count = self.degree[entity] if facts is None else facts
        return replies.Counted(**self._text(label), facts=count)

    def _query(self, head: str, path: Sequence[str], tail: str) -> replies.Query:
        """A query of labels, `?` for the part that is asked for; the path is empty for a `?`."""
        return replies.Query(
            head=head,
            relation="/".join(path) or ASKED,
            tail=tail,
            names=self._names(head, path, tail),
        )

    def _names(self, head: str, path: Sequence[str], tail: str) -> replies.Triple:
        relation = "/".join(map(self.name, path)) or ASKED
        return replies.Triple(head=self.name(head), relation=relation, tail=self.name(tail))

    # The run

    def about(self) -> replies.About:
        """The run and its data."""
        predictor, dataset = self.predictor, self.predictor.dataset
        return replies.About(
            run=predictor.run.place().resolve().name,
            data=dataset.name,
            entities=dataset.num_entities,
            relations=dataset.num_relations,
            train=len(dataset.train),
            valid=len(dataset.valid),
            test=len(dataset.test),
            assumed_missing=predictor.assumed_missing,
            probabilities=predictor.probability() is not None,
            explains=predictor.scorer.passes is not None,
            version=importlib.metadata.version("kgtool"),
        )

    def relations(self) -> list[replies.Counted]:
        """All relations, those with most facts first."""
        rows = zip(self.labels.vocabulary.relations, self._uses, strict=True)
        return [
            replies.Counted(**self._text(label), facts=facts)
            for label, facts in sorted(rows, key=lambda row: (-row[1], row[0]))
        ]

    def examples(self) -> replies.Examples:
        """Queries about facts of test, or of another split if test is empty.

        Each is about another relation, the most frequent ones first, and the kinds of queries take
        turns.
        """
        dataset, names = self.predictor.dataset, self.labels.vocabulary
        split = next((s for s in map(dataset.split, reversed(SPLITS)) if len(s)), dataset.train)
        best: dict[int, list[int]] = {}
        for triple in split.tolist():
            head, relation, tail = triple
            weight = self.degree[head] + self.degree[tail]
            other = best.get(relation)
            if other is None or weight > self.degree[other[0]] + self.degree[other[2]]:
                best[relation] = triple
        common = sorted(best, key=lambda relation: -self._uses[relation])[:EXAMPLES]
        queries = []
        for place, relation in enumerate(common):
            head, _, tail = best[relation]
            labels = names.entities[head], [names.relations[relation]], names.entities[tail]
            kinds: tuple[tuple[str, list[str], str], ...] = (
                (labels[0], labels[1], ASKED), labels,
                (ASKED, labels[1], labels[2]), (labels[0], [], labels[2]),
            )  # fmt: skip
            queries.append(self._query(*kinds[place % len(kinds)]))
        return replies.Examples(queries=queries, entities=self._most_facts(range(len(self.degree))))

    def _most_facts(self, entities: Iterable[int], limit: int = 8) -> list[replies.Counted]:
        names = self.labels.vocabulary.entities
        order = sorted(entities, key=lambda i: (-self.degree[i], names[i]))
        return [self.entity(i) for i in order[:limit]]

    def facts(self, entity: str, limit: int) -> replies.EntityFacts:
        """What the graph says of an entity.

        Args:
            entity: its label or readable name.
            limit: the most facts of each relation and side, and the most neighbours.

        Raises:
            DataError: for an unknown label.
        """
        names, n = self.labels.vocabulary, self.predictor.dataset.num_relations
        found = self._facts.of(self.labels.entity(entity))
        label = names.entities[found.entity]
        shared = zip(found.neighbours[:limit].tolist(), found.shared[:limit].tolist(), strict=True)
        return replies.EntityFacts(
            **self._text(label),
            facts=self.degree[found.entity],
            types=list(self._types.get(label, ())),
            as_head=found.as_head,
            as_tail=found.as_tail,
            groups=[
                replies.Group(
                    relation=self.named(names.relations[group.relation % n]),
                    side="head" if group.relation < n else "tail",
                    count=len(group.entities),
                    others=[
                        replies.Fact(**self._text(names.entities[i]), split=SPLITS[split])
                        for i, split in zip(
                            group.entities[:limit].tolist(), group.splits.tolist(), strict=False
                        )
                    ],
                )
                for group in found.by_relation
            ],
            neighbours=[self.entity(i, count) for i, count in shared],
            neighbours_count=len(found.neighbours),
        )

    # Queries

    def answer(self, parts: Sequence[str], limit: int, any_type: bool) -> replies.Answers:
        """The known answers to a query, and the best new ones.

        Args:
            parts: head, relation and tail, one of them `?`.
            limit: the most new answers, and the most known ones.
            any_type: as for `Predictor.ask`.

        Raises:
            ConfigError: unless there is exactly one `?`; for a path that is too long.
            DataError: for an unknown label.
        """
        question = self._parsed(parts)
        names = self.labels.vocabulary
        labels = names.relations if question.asked == "relation" else names.entities
        head = ASKED if question.asked == "head" else names.entities[question.head]
        tail = ASKED if question.asked == "tail" else names.entities[question.tail]
        known = self._known(question)
        table = self.predictor.ask([question], limit, any_type=any_type)
        return replies.Answers(
            asked=question.asked,
            question=self._query(head, [names.steps[r] for r in question.path], tail),
            known=[
                replies.KnownAnswer(
                    **self._text(labels[answer]),
                    split=split,
                    why=self._why(question, labels[answer]),
                )
                for answer, split in known[:limit]
            ],
            known_count=len(known),
            other_types=table.attrs["left_out"][0]["types"],
            answers=[
                replies.Answer(
                    **self._text(getattr(row, question.asked)),
                    score=row.score,
                    probability=_number(row.probability),
                    why=self._why(question, getattr(row, question.asked)),
                )
                for row in table.itertuples()
            ],
        )

    def _parsed(self, parts: Sequence[str]) -> Question:
        if list(parts).count(ASKED) != 1:
            raise ConfigError(
                "a query has one '?'. Remedy: leave exactly one of head, relation and tail empty, "
                "or use /api/scores for a whole triple."
            )
        _short_enough(parts[1], self.labels)
        question = parse_question(parts, self.labels)
        if len(question.path) > LONGEST_PATH:
            raise ConfigError(_TOO_LONG)
        return question

    def _known(self, question: Question) -> list[tuple[int, str]]:
        """The known answers, those with most facts first, with the split that has the fact."""
        predictor, n = self.predictor, self.predictor.dataset.num_relations
        start, path = question.walked(n)
        split_of: dict[int, str] = {}
        if len(path) > 1:
            split_of = dict.fromkeys(follow(predictor.known, start, path).tolist(), "facts")
        for split in SPLITS:
            index = predictor.known_in(split)
            if question.asked == "relation":
                pairs = torch.tensor([[question.head, r, question.tail] for r in range(n)])
                held = index.contains(pairs).nonzero().flatten()
            elif len(path) == 1:
                held = index.tails[index.expand(index.rows(torch.tensor([[start, *path]])))[1]]
            else:
                continue
            for answer in held.tolist():
                split_of.setdefault(answer, split)
        count = self._uses if question.asked == "relation" else self.degree
        return sorted(split_of.items(), key=lambda item: (-count[item[0]], item[0]))

    def _why(self, question: Question, answer: str) -> replies.Triple | None:
        """The triple to explain an answer; for a head, the inverse triple from the tail."""
        if len(question.path) > 1 or self.predictor.scorer.passes is None:
            return None
        names = self.labels.vocabulary
        if question.asked == "relation":
            head, tail = names.entities[question.head], names.entities[question.tail]
            return replies.Triple(head=head, relation=answer, tail=tail)
        start, (relation,) = question.walked(len(names.relations))
        return replies.Triple(
            head=names.entities[start], relation=names.steps[relation], tail=answer
        )

    def score(self, head: str, relation: str, tail: str) -> replies.Score:
        """The score of a triple, of labels or readable names.

        Raises:
            DataError: for an unknown label.
        """
        # `score_triples` gives a reason in place of an error with the nearest label.
        for text in (head, tail):
            self.labels.entity(text)
        _short_enough(relation, self.labels)
        self.labels.path(relation)
        return self.scores([(head, relation, tail)])[0]

    def scores(self, triples: Sequence[tuple[str, str, str]]) -> list[replies.Score]:
        """The scores of triples; one with an unknown label has a reason in place of a score."""
        for _, relation, _ in triples:
            _short_enough(relation, self.labels)
        table = self.predictor.score_triples(triples)
        explains = self.predictor.scorer.passes is not None
        found = []
        for row in table.itertuples():
            parts = {"head": row.head, "relation": row.relation, "tail": row.tail}
            found.append(
                replies.Score(
                    **parts,
                    names=self._names(row.head, self._steps(row.relation), row.tail),
                    score=_number(row.score),
                    probability=_number(row.probability),
                    split=row.known or None,
                    why=replies.Triple(**parts)
                    if explains
                    and row.relation in self.labels.vocabulary.step_ids
                    and not row.reason
                    else None,
                    reason=row.reason or None,
                )
            )
        return found

    def _steps(self, relation: str) -> list[str]:
        """The labels of a path's relations; an unknown one stays whole."""
        try:
            path = self.labels.path(relation, hint=False)
        except DataError:
            return [relation]
        return [self.labels.vocabulary.steps[r] for r in path]

    def explanation(self, head: str, relation: str, tail: str, limit: int) -> replies.Explanation:
        """The paths that contribute to a triple's score, see `Predictor.explain`.

        Raises:
            RunError: if the run's model has no paths to show.
            DataError: for an unknown label.
        """
        result = self.predictor.explain(head, relation, tail, limit)
        first, step, last = map(self.named, result.triple)
        paths = [self._path(path) for path in result.paths]
        return replies.Explanation(
            head=first, relation=step, tail=last, score=result.score, carried=result.carried,
            embeddings=result.embeddings, paths=paths, drawing=drawing_of(result, self.name),
        )  # fmt: skip

    def _path(self, path: NamedPath) -> replies.Path:
        steps = []
        for step in path.steps:
            main = set(main_relations(step))
            steps.append(
                [
                    replies.Step(**self._text(label), weight=weight)
                    for label, weight in step
                    if label in main
                ]
            )
        entities = [self.named(label) for label in path.entities]
        return replies.Path(weight=path.weight, fall=path.fall, entities=entities, steps=steps)


def drawing_of(explanation: Explanation, names: Callable[[str], str]) -> replies.Drawing | None:
    """The drawing of an explanation, with the readable names of labels; None without paths."""
    drawn = draw(explanation, names)
    if drawn is None:
        return None
    boxes = [
        replies.Box(
            label=node.label, name=node.name, x=node.x, y=node.y, width=2 * node.half,
            height=node.height, lines=list(node.lines), end=node.end,
        )
        for node in drawn.nodes
    ]  # fmt: skip
    lines = [
        replies.Line(
            path=edge.path, stroke=edge.stroke, lowers=not edge.speaks_for, back=edge.back,
            x=edge.x, y=edge.y, lines=list(edge.lines), title=edge.title,
        )
        for edge in drawn.edges
    ]  # fmt: skip
    return replies.Drawing(width=drawn.width, height=drawn.height, boxes=boxes, lines=lines)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


_TOO_LONG = f"the path is too long. Remedy: use at most {LONGEST_PATH} relations."


def _short_enough(path: str, labels: LabelIndex) -> None:
    """Refuse a path with too many slashes, before all its readings are tried."""
    most = max((label.count("/") for label in labels.vocabulary.relations), default=0)
    if path.count("/") > LONGEST_PATH * (most + 1) - 1:
        raise ConfigError(_TOO_LONG)
