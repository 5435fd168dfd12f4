"""Entities by what is typed of them: of label or readable name, its beginning, then any part."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate

from kgtool.data.labels import LabelIndex


@dataclass(frozen=True, eq=False)
class EntitySearch:
    """The names of entities, in order and in one text, which is quick to look through.

    Attributes:
        names: labels and readable names, case folded, ascending.
        entity: the entity that each names.
        text: the names, a line each.
        start: where each line starts.
    """

    names: tuple[str, ...]
    entity: tuple[int, ...]
    text: str
    start: tuple[int, ...]

    @classmethod
    def of(cls, labels: LabelIndex) -> EntitySearch:
        """The search among a graph's entities."""
        found = {
            (name.casefold(), i)
            for i, label in enumerate(labels.vocabulary.entities)
            for name in (label, labels.names.get(label, label))
        }
        names, entity = zip(*sorted(found), strict=True) if found else ((), ())
        start = tuple(accumulate((len(name) + 1 for name in names), initial=0))
        return cls(names, entity, "\n".join(names), start[:-1])

    def __call__(self, typed: str, limit: int) -> list[int]:
        """At most `limit` entities: those whose name begins so, then those that hold it."""
        typed = typed.casefold()
        if "\n" in typed:  # no line holds it
            return []
        hits: dict[int, None] = {}
        row = bisect_left(self.names, typed)
        while len(hits) < limit and row < len(self.names) and self.names[row].startswith(typed):
            hits[self.entity[row]] = None
            row += 1
        place = self.text.find(typed)
        while len(hits) < limit and place >= 0:
            row = bisect_right(self.start, place) - 1
            hits[self.entity[row]] = None
            place = self.text.find(typed, self.start[row] + len(self.names[row]) + 1)
        return list(hits)
