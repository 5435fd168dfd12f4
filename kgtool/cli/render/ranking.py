"""Tables of link prediction: metrics, baselines, and groups of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.data.dataset import KNOWN_BY
from kgtool.evaluation.analysis.breakdown import RankedQueries
from kgtool.evaluation.evaluator import Evaluation
from kgtool.evaluation.metrics import LEVEL, NEGATIVES, Metrics

# Groups that a table shows, of those with most queries.
MOST_GROUPS = 20


def metrics_table(found: Evaluation) -> Group:
    """The table of `kgtool evaluate`."""
    counts = found.counts
    table = Table(
        title=_title(found),
        # Without rules between columns, so that 80 hold a mean rank of six digits.
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("side")
    table.add_column("ties")
    for name in ("MRR", "MR", "AMR", *(f"Hits@{k}" for k in found.hits)):
        table.add_column(name, justify="right")

    def row(side: str, ties: str, m: Metrics, end: bool = False) -> None:
        hits = (f"{m[f'hits@{k}']:.3f}" for k in found.hits)
        table.add_row(
            side, ties, f"{m['mrr']:.4f}", f"{m['mr']:,.1f}", f"{m['amr']:.4f}", *hits,
            end_section=end,
        )  # fmt: skip

    for side in ("both", "head", "tail"):
        row(side, "realistic", found.filtered[side]["realistic"], end=side == "tail")
    for policy in ("optimistic", "pessimistic"):
        row("both", policy, found.filtered["both"][policy], end=policy == "pessimistic")
    row("both, raw", "realistic", found.raw["both"]["realistic"])
    if found.weighted:
        row("both, weighted", "realistic", found.weighted["both"]["realistic"])
    if found.seen and counts["unseen_triples"]:
        row("both, seen", "realistic", found.seen["both"]["realistic"])
    notes = [
        f"Filtered by {_filter(found)}, except the raw row. AMR: 1 is chance level, 0 is best."
    ]
    if found.weighted:
        notes.append("In the row “weighted”, a query counts by the weight of its triple.")
    sampled = found.sampled
    if sampled:
        notes.append(
            f"Against {NEGATIVES} random negatives instead of all entities, expected value: "
            f"MRR {sampled['mrr']:.4f}"
            + "".join(f", Hits@{k} {sampled[f'hits@{k}']:.3f}" for k in found.hits[-1:])
            + "."
        )
    else:
        notes.append(
            f"Ranks among {found.candidates} candidates are not comparable with full rankings."
        )
    if counts["unseen_triples"]:
        notes.append(
            f"{counts['unseen_triples']} triples have {counts['unseen_entities']} entities or "
            f"{counts['unseen_relations']} relations that train lacks; they are ranked like the "
            "others, and left out of the row “seen”."
        )
    return Group(table, *(Text(note) for note in notes))


def baselines_table(found: Mapping[str, Evaluation]) -> Group:
    """The table of `kgtool evaluate` without a run: one row per baseline.

    Args:
        found: name → evaluation, all of one split.
    """
    first = next(iter(found.values()))
    table = Table(title=_title(first), box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("baseline")
    for name in ("MRR", "head", "tail", "MR", "AMRI", *(f"Hits@{k}" for k in first.hits)):
        table.add_column(name, justify="right")
    for name, evaluation in found.items():
        both, head, tail = (
            evaluation.filtered[side]["realistic"] for side in ("both", "head", "tail")
        )
        hits = (f"{both[f'hits@{k}']:.3f}" for k in first.hits)
        table.add_row(
            name, f"{both['mrr']:.4f}", f"{head['mrr']:.3f}", f"{tail['mrr']:.3f}",
            f"{both['mr']:,.1f}", f"{both['amri']:.4f}", *hits,
        )  # fmt: skip
    note = (
        f"Filtered by {_filter(first)}, realistic ties, MRR also by side. The baselines learn "
        "nothing. frequency: how often an entity is a tail of the relation in train; inverse: "
        "edges of other relations between head and tail; pagerank: random walks from the head "
        "over all relations."
    )
    if "recency-count" in found:
        note += (
            " recency-count: how recently the triple held, and how often an entity was a tail "
            "of the relation lately."
        )
    return Group(table, Text(note))


def breakdown_table(frame: pd.DataFrame, by: str, hits: Sequence[int]) -> Group:
    """The groups of one kind: filtered, realistic ties; MRR with its interval.

    Args:
        frame: of `kgtool.evaluation.analysis.breakdown`.
        by: what to group by.
        hits: the k of Hits@k.
    """
    rows = frame[
        (frame["by"] == by) & (frame["filter"] == "filtered") & (frame["ties"] == "realistic")
    ]
    both = rows[rows["side"] == "both"]
    names = both.loc[both["metric"] == "mrr", "group"].tolist()
    size = both[both["metric"] == "mrr"].set_index("group")["queries"]
    shown = names if len(names) <= MOST_GROUPS else size.nlargest(MOST_GROUPS).index.tolist()
    value = rows.set_index(["side", "metric", "group"])["value"]
    ends = both[both["metric"] == "mrr"].set_index("group")[["low", "high"]]
    # Without padding, so that 80 columns hold the names of groups such as "question only".
    table = Table(box=box.SIMPLE, padding=0)
    table.add_column(by, overflow="fold")
    percent = f"{100 * LEVEL:g} %"
    columns = ("queries", "MRR", percent, "head", "tail", *(f"Hits@{k}" for k in hits))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name in shown:
        low, high = ends.loc[name]
        table.add_row(
            Text(name), f"{size[name]:,}", f"{value['both', 'mrr', name]:.4f}",
            f"{low:.3f}-{high:.3f}",
            *(three(value.get((side, "mrr", name))) for side in ("head", "tail")),
            *(f"{value['both', f'hits@{k}', name]:.3f}" for k in hits),
        )  # fmt: skip
    notes = []
    if by == "half_links":
        notes.append(
            "half_links: which of the answer and the question's entity have an edge of the "
            "query's relation in train."
        )
    if len(shown) < len(names):
        notes.append(f"The {len(shown)} of {len(names):,} groups with the most queries.")
    said = both[(both["metric"] == "mrr") & both["group"].isin(shown) & (both["note"] != "")]
    for note, of_note in said.groupby("note", sort=False)["group"]:
        notes.append(f"{by} {', '.join(of_note)}: {note}.")
    everywhere = frame.loc[frame["by"] == "all", "note"].max()
    # `kgtool evaluate` prints it under the categories, and not again under the half-links.
    if everywhere and by not in ("distance", "half_links"):
        notes.append(f"{everywhere}: see the breakdown by distance.")
    return Group(table, *(Text(note) for note in notes))


def ranked_among(queries: RankedQueries) -> str:
    """The last line of `kgtool evaluate --ranks`: the number of candidates."""
    number = queries.candidates[~queries.candidates.isnan()]
    if not len(number):
        return "The file does not give the number of candidates."
    low, high = int(number.min()), int(number.max())
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return (
        f"Ranks are among {each} candidates per query, the answer included. If these are not all "
        "entities, do not compare the metrics with those of full rankings."
    )


def _title(found: Evaluation) -> str:
    """The split, its queries and the candidates."""
    among = f"over {found.counts['entities']:,} entities"
    if found.candidates != "all":
        among = f"among {found.candidates} candidates, not all entities"
    return f"{found.split}: {found.counts['queries']:,} queries {among}"


def _filter(found: Evaluation) -> str:
    """The splits that rankings are filtered by."""
    return " + ".join(KNOWN_BY[found.split])


def three(value: float | None) -> str:
    """A number with three digits; an empty string for None."""
    return "" if value is None else f"{value:.3f}"
