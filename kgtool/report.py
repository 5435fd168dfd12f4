"""Tables for the terminal: metrics, with the numbers that papers print, and explanations."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.evaluator import HITS, NEGATIVES, Evaluation, Metrics
from kgtool.explain import Explanation


def metrics_table(found: Evaluation) -> Group:
    """The table that `kgtool evaluate` prints."""
    counts = found.counts
    table = Table(
        title=f"{found.split}: {counts['queries']:,} queries over {counts['entities']:,} entities",
        # Without rules between columns, so that 80 hold a mean rank of six digits.
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("side")
    table.add_column("ties")
    for name in ("MRR", "MR", "AMR", *(f"Hits@{k}" for k in HITS)):
        table.add_column(name, justify="right")

    def row(side: str, ties: str, m: Metrics, end: bool = False) -> None:
        hits = (f"{m[f'hits@{k}']:.3f}" for k in HITS)
        table.add_row(
            side, ties, f"{m['mrr']:.4f}", f"{m['mr']:,.1f}", f"{m['amr']:.4f}", *hits,
            end_section=end,
        )  # fmt: skip

    for side in ("both", "head", "tail"):
        row(side, "realistic", found.filtered[side]["realistic"], end=side == "tail")
    for policy in ("optimistic", "pessimistic"):
        row("both", policy, found.filtered["both"][policy], end=policy == "pessimistic")
    row("both, raw", "realistic", found.raw["both"]["realistic"])
    if found.seen and counts["unseen_triples"]:
        row("both, seen", "realistic", found.seen["both"]["realistic"])
    known = "train + valid + test" if found.split == "test" else "train + valid"
    notes = [f"Filtered of {known}, but for the raw row. AMR: 1 is chance, 0 is best."]
    sampled = found.sampled
    notes.append(
        f"Among {NEGATIVES} random negatives instead of all entities, the mean over all draws: "
        f"MRR {sampled['mrr']:.4f}, Hits@10 {sampled['hits@10']:.3f}."
    )
    if counts["unseen_triples"]:
        notes.append(
            f"{counts['unseen_triples']} triples hold {counts['unseen_entities']} entities or "
            f"{counts['unseen_relations']} relations that train lacks; they are ranked like all "
            "others, and left out of the row “seen”."
        )
    return Group(table, *(Text(note) for note in notes))


def explanation_table(found: Explanation) -> Table | Text:
    """The table that `kgtool explain` prints."""
    head, relation, tail = found.triple
    if not found.paths:
        return Text(f"No path that the model reads leads from {head} to {tail}.")
    table = Table(
        title=Text(f"{head} --{relation}--> {tail}"), box=box.SIMPLE, padding=(0, 1, 0, 0)
    )
    table.add_column("weight", justify="right")
    table.add_column("path", overflow="fold")
    for path in found.paths:
        table.add_row(f"{path.weight:.3f}", Text(str(path)))
    return table
