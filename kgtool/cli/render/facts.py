"""What a data set holds about an entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.api.data import Shown
from kgtool.data.dataset import SPLITS
from kgtool.data.facts import RelationFacts


def facts_table(shown: Shown, most: int) -> Group:
    """The tables of `kgtool data show`.

    Args:
        shown: the facts.
        most: the most entities of each relation, and the most neighbours.
    """
    facts, labels = shown.facts, shown.labels
    label, name = labels.vocabulary.entities[facts.entity], labels.shown(facts.entity)
    title = name if name == label else f"{name} ({label})"
    degree = facts.as_head + facts.as_tail
    lines = [f"type: {', '.join(shown.types)}"] if shown.types else []
    lines.append(f"degree: {degree:,} (head of {facts.as_head:,}, tail of {facts.as_tail:,})")
    own = (split for group in facts.by_relation for split in group.splits.tolist())
    counts = Counter(own)
    lines.append("facts: " + ", ".join(f"{counts[i]:,} in {n}" for i, n in enumerate(SPLITS)))
    table = _table("facts by relation; ^ marks those where it is the tail")
    table.add_column("relation", overflow="fold", ratio=2)
    table.add_column("facts", justify="right", no_wrap=True)
    table.add_column("other ends, of highest degree first", overflow="fold", ratio=5)
    for group in facts.by_relation:
        table.add_row(
            Text(labels.vocabulary.steps[group.relation]), f"{len(group.entities):,}",
            Text(_ends(group, shown, most)),
        )  # fmt: skip
    near = _table("neighbours")
    near.add_column("facts", justify="right", no_wrap=True)
    near.add_column("degree", justify="right", no_wrap=True)
    near.add_column("entity", overflow="fold", ratio=1)
    for entity, count in zip(facts.neighbours[:most].tolist(), facts.shared.tolist(), strict=False):
        named = Text(_named(shown, entity))
        near.add_row(f"{count:,}", f"{int(shown.index.degree[entity]):,}", named)
    rest = len(facts.neighbours) - most
    note = [Text(f"and {rest:,} more neighbours; --top shows more")] if rest > 0 else []
    return Group(Text(title, style="bold"), *map(Text, lines), table, near, *note)


def _ends(group: RelationFacts, shown: Shown, most: int) -> str:
    """The first entities of a relation; those that train lacks with their split."""
    pairs: Sequence[tuple[int, int]] = list(
        zip(group.entities[:most].tolist(), group.splits.tolist(), strict=False)
    )
    names = [
        _named(shown, entity) + (f" [{SPLITS[split]}]" if split else "") for entity, split in pairs
    ]
    more = len(group.entities) - len(names)
    return "; ".join(names) + (f"; and {more:,} more" if more else "")


def _named(shown: Shown, entity: int) -> str:
    label, name = shown.labels.vocabulary.entities[entity], shown.labels.shown(entity)
    return label if name == label else f"{name} ({label})"


def _table(title: str) -> Table:
    return Table(
        title=Text(title), title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0), expand=True
    )
