"""Finds the ids of labels and readable names, of inverse relations and of relation paths.

A label identifies an entity or relation exactly: it is the text in the triples. A name is readable
text for a label, from a file of `label⇥name` lines; several labels may share a name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import pandas as pd

from kgtool.data.dataset import Vocabulary
from kgtool.errors import DataError, nearest, quoted

_MOST_COMPARED = 200_000  # labels: comparing a text with more takes seconds
_SHOWN = 5  # labels that the error about an unknown one names


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """Looks up ids by label or by readable name.

    Attributes:
        vocabulary: the labels by id.
        names: label → readable name; a label without a name is shown itself.
    """

    vocabulary: Vocabulary
    names: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"LabelIndex({self.vocabulary!r}, {len(self.names):,} names)"

    def entity(self, text: str, hint: bool = True) -> int:
        """The id of an entity, by its label, or by its readable name if the name is unique.

        Args:
            text: a label or a readable name.
            hint: whether an error names the nearest label, which takes long in large vocabularies.

        Raises:
            DataError: for an unknown text, with the nearest label or name; for a name that several
                entities share.
        """
        text, ids = label_of(text), self.vocabulary.entity_ids
        if text in ids:
            return ids[text]
        candidates = self._labels_of_name.get(text, ())
        if len(candidates) > 1:
            shown = ", ".join(map(quoted, candidates[:5])) + (", …" if len(candidates) > 5 else "")
            raise DataError(
                f"{quoted(text)} is the name of {len(candidates)} entities. "
                f"Remedy: use one of the labels {shown}."
            )
        if candidates:
            return ids[candidates[0]]
        return id_of(text, ids, "entity", self._labels_of_name, hint=hint)

    def relation(self, text: str, hint: bool = True) -> int:
        """The id of a relation; `^r` is the inverse of `r`.

        Args:
            text: a label.
            hint: as for `entity`.

        Raises:
            DataError: for an unknown label, with the nearest label.
        """
        return id_of(label_of(text), self.vocabulary.step_ids, "relation", hint=hint)

    def path(self, text: str, hint: bool = True) -> tuple[int, ...]:
        """The relation ids of the path `r1/r2`, or of the single relation whose label is `text`.

        Labels may contain slashes: a path is split only where every part is a label.

        Args:
            text: a label, or labels between slashes.
            hint: as for `entity`.

        Raises:
            DataError: for an unknown label, with the nearest label; for a path with two readings.
        """
        text, steps = label_of(text), self.vocabulary.step_ids
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
                f"the path {quoted(text)} has two readings: {one}, or {other}. "
                "Remedy: ask for one relation at a time."
            )
        return ways[-1][0] if ways[-1] else (id_of(text, steps, "relation", hint=hint),)

    def similar(self, text: str, most: int = 5) -> list[str]:
        """The labels and names that are most like a text that is none of them.

        Those that contain all its words come first, short ones before long ones.
        """
        words = text.casefold().split()
        known = [*self.vocabulary.entities, *self._labels_of_name]
        holding = [each for each in known if all(word in each.casefold() for word in words)]
        found = sorted(holding, key=lambda each: (len(each), each))[:most]
        if len(found) < most and len(known) <= _MOST_COMPARED:
            close = difflib.get_close_matches(text, known, most)
            found += [each for each in close if each not in found][: most - len(found)]
        return found

    def with_names(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table with readable names next to the labels in `head`, `tail` and `entity`.

        The new columns are `head_name`, `tail_name` and `entity_name`; an entity without a name has
        its label there. Without names, or with these columns already, the table is unchanged.
        """
        if not self.names:
            return frame
        named = frame.copy()
        named.attrs = frame.attrs
        for column in ("head", "tail", "entity"):
            if column in named and f"{column}_name" not in named:
                texts = [self.names.get(label, label) for label in named[column]]
                place = int(named.columns.get_indexer([column])[0]) + 1
                named.insert(place, f"{column}_name", texts)
        return named

    def shown(self, entity: int) -> str:
        """The readable name of an entity, or its label if it has no name."""
        label = self.vocabulary.entities[entity]
        return self.names.get(label, label)

    @cached_property
    def _labels_of_name(self) -> dict[str, list[str]]:
        """The entity labels of each readable name."""
        labels: dict[str, list[str]] = {}
        for label, name in self.names.items():
            if label in self.vocabulary.entity_ids:
                labels.setdefault(name, []).append(label)
        return labels


def label_of(value: object) -> str:
    """A label: a text, or the digits of an integer, as `kgtool.dataset_of` reads them.

    Raises:
        DataError: for any other value.
    """
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a number of NumPy or torch
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{quoted(repr(value))} is not a label. Remedy: give a text.")


def id_of(
    label: str,
    ids: Mapping[str, int],
    kind: str,
    names: Mapping[str, object] | None = None,
    *,
    hint: bool = True,
) -> int:
    """The id of a label.

    Args:
        label: the label.
        ids: label → id.
        kind: `"entity"` or `"relation"`, for errors.
        names: readable names that the error may suggest as well.
        hint: whether the error suggests the nearest label or name.

    Raises:
        DataError: for an unknown label.
    """
    if label in ids:
        return ids[label]
    like = nearest(label, [*ids, *(names or ())]) if hint else None
    suggestion = f" (did you mean {quoted(like)}?)" if like else ""
    some = "" if like or not ids else f", such as {', '.join(map(quoted, islice(ids, _SHOWN)))}"
    raise DataError(
        f"unknown {kind} {quoted(label)}{suggestion}. Remedy: use a label of the data{some}."
    )
