"""Searches entities by words, in any order, of their label and readable name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from kgtool.data.labels import LabelIndex


@dataclass(frozen=True, eq=False)
class EntitySearch:
    """An index of the labels and names of entities, as one text for fast search.

    Attributes:
        entity: the entity of each line, those with most facts first.
        text: a line per entity, case folded: its name, and its label if that is another text. A
            line feed comes first.
        start: the start of each line in `text`, and the end of the last line.
    """

    entity: tuple[int, ...]
    text: str
    start: tuple[int, ...]

    @classmethod
    def of(cls, labels: LabelIndex, degree: Sequence[int]) -> EntitySearch:
        """The index of a graph's entities.

        Args:
            labels: their labels and names.
            degree: the number of facts of each entity.
        """
        entities = labels.vocabulary.entities
        order = sorted(range(len(entities)), key=lambda i: (-degree[i], entities[i]))
        lines = [_line(entities[i], labels.names.get(entities[i])) for i in order]
        start = tuple(accumulate((len(line) + 1 for line in lines), initial=1))
        return cls(tuple(order), "\n".join(["", *lines, ""]), start)

    def __call__(self, typed: str, limit: int) -> list[int]:
        """At most `limit` entities whose line has all typed words.

        First come those that begin with the typed text, then those whose words begin with the typed
        words, then the others. Among equals, those with most facts come first.
        """
        typed = _folded(typed).strip()
        words = sorted(set(typed.split()), key=lambda word: -len(word))
        if not words:
            return list(self.entity[:limit])
        hits: dict[int, None] = {}
        searches = (
            self._begin(typed),
            (line for line in self._lines(words) if all(self._begins(w, line) for w in words)),
            self._lines(words),
        )
        for search in searches:
            for line in search:
                if len(hits) == limit:
                    break
                hits[line] = None
        return [self.entity[line] for line in hits]

    def _begin(self, typed: str) -> Iterator[int]:
        """The lines whose name or label begins with a text."""
        for line in self._lines([typed]):
            first, end = self.start[line], self.start[line + 1]
            if self.text.startswith(typed, first) or self.text.find(f"\t{typed}", first, end) >= 0:
                yield line

    def _lines(self, words: Sequence[str]) -> Iterator[int]:
        """The lines that have all words; the first word should be the rarest."""
        place = self.text.find(words[0])
        while place >= 0:
            line = bisect_right(self.start, place) - 1
            first, end = self.start[line], self.start[line + 1]
            if all(self.text.find(word, first, end) >= 0 for word in words[1:]):
                yield line
            place = self.text.find(words[0], end)

    def _begins(self, word: str, line: int) -> bool:
        """Whether a word of the line begins with `word`."""
        first, end = self.start[line], self.start[line + 1]
        place = self.text.find(word, first, end)
        while place >= 0:
            if place == first or not self.text[place - 1].isalnum():
                return True
            place = self.text.find(word, place + 1, end)
        return False


def _line(label: str, name: str | None) -> str:
    parts = (label,) if name is None or name == label else (name, label)
    return "\t".join(_folded(part) for part in parts)


def _folded(text: str) -> str:
    """The text for comparisons: case folded, with blanks for line feeds, tabs and underscores."""
    return text.casefold().translate({ord(c): " " for c in "\n\t_"})
