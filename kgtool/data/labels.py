"""Labels as people write and read them: ids, readable names, inverse relations, relation paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kgtool.data.dataset import Vocabulary
from kgtool.errors import DataError, nearest, quoted


@dataclass(frozen=True, eq=False)
class Words:
    """The labels of a graph, and readable names beside them.

    Attributes:
        vocabulary: the labels, which name things exactly.
        readable: label → a name to show in its place; what has none is shown by its label.
    """

    vocabulary: Vocabulary
    readable: Mapping[str, str] = field(default_factory=dict)

    def entity(self, text: str) -> int:
        """The id of an entity, by its label, or by its readable name where no other has it.

        Raises:
            DataError: when there is none, with the nearest, or several of that name.
        """
        ids = self.vocabulary.entity_ids
        if text in ids:
            return ids[text]
        named = self._named.get(text, ())
        if len(named) > 1:
            shown = ", ".join(map(quoted, named[:5])) + (", …" if len(named) > 5 else "")
            raise DataError(f"{quoted(text)} names {len(named)} entities. Remedy: one of {shown}.")
        return ids[named[0]] if named else id_of(text, ids, "entity", self._named)

    def relation(self, text: str) -> int:
        """The id of a relation; `^r` is the inverse of `r`.

        Raises:
            DataError: when there is none, with the nearest.
        """
        return id_of(text, self.vocabulary.step_ids, "relation")

    def path(self, text: str) -> tuple[int, ...]:
        """The ids of the relations of `r1/r2`, or of the one relation that `text` names whole.

        Labels may hold slashes themselves: what counts is that the parts are labels.

        Raises:
            DataError: when there is none, with the nearest, or when it can be read in two ways.
        """
        steps = self.vocabulary.step_ids
        if text in steps:
            return (steps[text],)
        parts = text.split("/")
        # ways[i]: readings of the first i parts, two at most
        ways: list[list[tuple[int, ...]]] = [[()], *([] for _ in parts)]
        for end in range(1, len(parts) + 1):
            for start in range(end):
                step = steps.get("/".join(parts[start:end]))
                if step is not None:
                    ways[end] = [*ways[end], *((*way, step) for way in ways[start])][:2]
        if len(ways[-1]) > 1:
            one, other = (" then ".join(self.vocabulary.steps[r] for r in w) for w in ways[-1])
            raise DataError(
                f"the path {quoted(text)} is {one}, or {other}. Remedy: ask for one step at a time."
            )
        return ways[-1][0] if ways[-1] else (id_of(text, steps, "relation"),)

    def shown(self, entity: int) -> str:
        """How an entity is shown to people."""
        label = self.vocabulary.entities[entity]
        return self.readable.get(label, label)

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        """The labels of each readable name."""
        named: dict[str, list[str]] = {}
        for label, name in self.readable.items():
            if label in self.vocabulary.entity_ids:
                named.setdefault(name, []).append(label)
        return named


def id_of(
    label: str, ids: Mapping[str, int], kind: str, others: Mapping[str, object] | None = None
) -> int:
    """The id of a label; one that is not known is an error that names the nearest.

    Args:
        label: what was written.
        ids: by label.
        kind: `"entity"` or `"relation"`.
        others: further names that may have been meant.
    """
    if label in ids:
        return ids[label]
    like = nearest(label, [*ids, *(others or ())])
    hint = f" (is it {quoted(like)}?)" if like else ""
    raise DataError(f"no {kind} {quoted(label)}{hint}. Remedy: use a label of the data.")
