"""Searches entities by the beginning, then by any part, of their label or readable name."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate

from kgtool.data.labels import LabelIndex


@dataclass(frozen=True, eq=False)
class EntitySearch:
    """An index of the labels and names of entities: sorted, and as one text for fast search.

    Attributes:
        names: labels and readable names, case folded, ascending.
        entity: the entity of each name.
        text: the names, one per line.
        start: the start of each line in `text`.
    """

    names: tuple[str, ...]
    entity: tuple[int, ...]
    text: str
    start: tuple[int, ...]

    @classmethod
    def of(cls, labels: LabelIndex) -> EntitySearch:
        """The index of a graph's entities."""
        pairs = {
            (name.casefold(), i)
            for i, label in enumerate(labels.vocabulary.entities)
            for name in (label, labels.names.get(label, label))
        }
        names, entity = zip(*sorted(pairs), strict=True) if pairs else ((), ())
        start = tuple(accumulate((len(name) + 1 for name in names), initial=0))
        return cls(names, entity, "\n".join(names), start[:-1])

    def __call__(self, typed: str, limit: int) -> list[int]:
        """At most `limit` entities: names that begin with `typed`, then names that contain it."""
        typed = typed.casefold()
        if "\n" in typed:  # it would span two lines
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
