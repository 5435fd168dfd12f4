"""Tables for the terminal: metrics, with the numbers that papers print, explanations, walks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.breakdown import RankedQueries
from kgtool.classification import TripleEvaluation
from kgtool.evaluator import Evaluation
from kgtool.explain import Explanation
from kgtool.metrics import LEVEL, NEGATIVES, Metrics
from kgtool.path_evaluator import METRICS
from kgtool.perplexity import WalkPerplexity
from kgtool.relation_prediction import RelationEvaluation
from kgtool.results import PathResults
from kgtool.triples import KNOWN_BY

# Groups that a table shows, of those with most queries.
MOST_GROUPS = 20


def metrics_table(found: Evaluation) -> Group:
    """The table that `kgtool evaluate` prints."""
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
    if found.seen and counts["unseen_triples"]:
        row("both, seen", "realistic", found.seen["both"]["realistic"])
    notes = [f"Filtered of {_filter(found)}, but for the raw row. AMR: 1 is chance, 0 is best."]
    sampled = found.sampled
    if sampled:
        notes.append(
            f"Among {NEGATIVES} random negatives instead of all entities, the mean over all draws: "
            f"MRR {sampled['mrr']:.4f}"
            + "".join(f", Hits@{k} {sampled[f'hits@{k}']:.3f}" for k in found.hits[-1:])
            + "."
        )
    else:
        notes.append(f"Ranks among {found.candidates} candidates stand above those among all.")
    if counts["unseen_triples"]:
        notes.append(
            f"{counts['unseen_triples']} triples hold {counts['unseen_entities']} entities or "
            f"{counts['unseen_relations']} relations that train lacks; they are ranked like all "
            "others, and left out of the row “seen”."
        )
    return Group(table, *(Text(note) for note in notes))


def ranked_among(queries: RankedQueries) -> str:
    """The line that `kgtool metrics` prints: the protocol, as far as ranks tell it."""
    number = queries.candidates[~queries.candidates.isnan()]
    if not len(number):
        return "Among how many candidates the ranks are, the file does not say."
    low, high = int(number.min()), int(number.max())
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return (
        f"Ranks are among {each} candidates a query, the answer included. Where these are not all "
        "entities, such ranks stand above those among all."
    )


def relations_table(found: RelationEvaluation) -> Group:
    """The table that `kgtool relations` prints."""
    table = Table(
        title=f"{found.split}: the relation of {len(found.triples):,} pairs",
        box=box.SIMPLE, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("relations by")
    table.add_column("ties")
    rows = [("scores and counts", policy, m) for policy, m in found.filtered.items()]
    rows += [("the same, raw", "realistic", found.raw["realistic"])]
    rows += [("counts alone", "realistic", found.counted["realistic"])]
    names = ["mrr", "mr", *(name for name in rows[0][2] if name.startswith("hits@"))]
    for name in names:
        table.add_column(name.upper() if "@" not in name else name.capitalize(), justify="right")
    for by, policy, m in rows:
        table.add_row(by, policy, f"{m['mrr']:.4f}", *(f"{m[name]:.3f}" for name in names[1:]))
    note = "Filtered of other known relations of the pair. Weights fitted on valid"
    note += ", which flatters it here." if found.split == "valid" else "."
    return Group(table, Text(note))


def triples_table(found: TripleEvaluation) -> Group:
    """The table that `kgtool classify` prints: the metrics, and what probabilities are worth."""
    counts = found.to_dict()["counts"]
    kind = "the data's own" if found.negatives == "given" else "drawn"
    title = f"{found.split}: {counts['hold']:,} triples, {counts['do not']:,} negatives, {kind}"
    names = {
        "accuracy": "accuracy", "f1": "F1", "precision": "precision", "recall": "recall",
        "roc_auc": "ROC-AUC", "average_precision": "AP", "ece": "ECE",
    }  # fmt: skip
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in names.values():
        table.add_column(name, justify="right")
    table.add_row(*(f"{found.metrics[name]:.4f}" for name in names))
    bins = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("probability", "observed", "95 %", "triples"):
        bins.add_column(name, justify="right")
    for row in found.calibration.itertuples():
        bins.add_row(
            f"{row.probability:.3f}", f"{row.observed:.3f}", f"{row.low:.3f}-{row.high:.3f}",
            f"{row.count:,}",
        )  # fmt: skip
    note = "A threshold a relation, and the probabilities, fitted on valid"
    note += ", which flatters it here." if found.split == "valid" else "."
    return Group(table, bins, Text(note))


def baselines_table(found: Mapping[str, Evaluation]) -> Group:
    """The table that `kgtool evaluate` prints without a run: a row a baseline.

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
        f"Filtered of {_filter(first)}, realistic ties, MRR also by side. They learn nothing: "
        "frequency is how often an entity is a tail of the relation in train, inverse trusts edges "
        "of other relations between the two, pagerank walks from the head whatever the relation."
    )
    return Group(table, Text(note))


def _title(found: Evaluation) -> str:
    """What was asked, and among what."""
    among = f"over {found.counts['entities']:,} entities"
    if found.candidates != "all":
        among = f"among {found.candidates} candidates, not all entities"
    return f"{found.split}: {found.counts['queries']:,} queries {among}"


def _filter(found: Evaluation) -> str:
    """The splits whose triples were left out of rankings."""
    return " + ".join(KNOWN_BY[found.split])


def breakdown_table(frame: pd.DataFrame, by: str, hits: Sequence[int]) -> Group:
    """The groups of one kind: filtered, realistic ties; MRR with its interval.

    Args:
        frame: of `kgtool.breakdown`.
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
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
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
            *(_three(value.get((side, "mrr", name))) for side in ("head", "tail")),
            *(f"{value['both', f'hits@{k}', name]:.3f}" for k in hits),
        )  # fmt: skip
    notes = []
    if len(shown) < len(names):
        notes.append(f"The {len(shown)} of {len(names):,} with most queries.")
    return Group(table, *(Text(note) for note in notes))


def paths_table(results: PathResults) -> Group:
    """The table that `kgtool paths` prints."""
    found = results.evaluation
    how = "steps composed" if results.composed else "path read"
    table = Table(
        title=f"{found.split}: {len(found.queries):,} path queries, {how}",
        box=box.SIMPLE, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("answers", no_wrap=True)
    for name in (
        "hops", "queries", "ranked", "MQ", "H@10", "MRR", f"{100 * LEVEL:g} %", "Hits@10"
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    rows = found.table.set_index(["answers", "length", "metric"])
    quantile, typed, mrr, *hits = METRICS
    groups = list(dict.fromkeys(zip(found.table["answers"], found.table["length"], strict=True)))
    groups.sort(key=lambda group: group[0] == "train")  # stable: each part's lengths, then all
    for i, group in enumerate(groups):
        answers, length = group
        row, value = rows.loc[(answers, length, mrr)], rows["value"]
        table.add_row(
            answers, length, f"{row['queries']:,.0f}", f"{row['ranked']:,.0f}",
            *(_three(value.get((answers, length, metric))) for metric in (quantile, typed)),
            f"{row['value']:.4f}", f"{row['low']:.3f}-{row['high']:.3f}",
            _three(value.get((answers, length, hits[-1]))),
            end_section=groups[i + 1 : i + 2] != [] and groups[i + 1][0] != group[0],
        )  # fmt: skip
    drawn = found.queries.drawn
    too_many, walks = sum(d.too_many for d in drawn), sum(d.walks for d in drawn)
    notes = [
        "Each query counts as one, the mean of its ranked answers. Other answers do not count "
        "against one. Held-out answers need an edge that train lacks, train answers do not.",
        "MQ, the mean quantile, and H@10: among the wrong entities that the path's last "
        "relation leads to somewhere (Guu et al. 2015). MRR and Hits@10: among all entities.",
        f"Of {walks:,} walks, {too_many:,} asked for more than {results.about['max_answers']:,} "
        "answers, and were left out.",
    ]
    return Group(table, *(Text(note) for note in notes))


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


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


def perplexity_table(found: WalkPerplexity) -> Group:
    """The table that `kgtool walks` prints."""
    table = Table(
        title=f"Perplexity of {found.walks:,} walks with an edge of {found.split}",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in ("steps", "foretold by"):
        table.add_column(name)
    for name in ("relation", "entity", "both"):
        table.add_column(name, justify="right")
    rows = found.table.to_dict("records")
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        values = (f"{row[name]:,.2f}" for name in ("relation", "entity", "both"))
        ends = after is not None and after["steps"] != row["steps"]
        steps = f"{row['steps']} {row['count']:,}"
        table.add_row(steps, row["by"], *values, end_section=ends)
    note = (
        f"Walks of 1 to {found.max_length} steps over train and {found.split}. The model has the "
        "edges of train; so has the counting, each way backed off to the one above."
    )
    return Group(table, Text(note))


def steps_table(frame: pd.DataFrame) -> Table:
    """The table that `kgtool next` prints."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("P", "P of relation"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("relation", "entity", ""):
        table.add_column(name, overflow="fold")
    for row in frame.itertuples():
        known = "in train" if row.known else ""
        table.add_row(
            f"{row.probability:.4f}", f"{row.of_relation:.4f}",
            Text(row.relation), Text(row.entity), known,
        )  # fmt: skip
    return table


def routes_table(frame: pd.DataFrame) -> Group:
    """The table that `kgtool routes` prints."""
    bound = "arrives" in frame
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("P", justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    table.add_column("leads there" if bound else "leads to", justify="right")
    for row in frame.itertuples():
        leads = f"{row.ends:,}" if not bound else "yes" if row.arrives else ""
        table.add_row(f"{row.probability:.4f}", Text(" / ".join(row.path)), leads)
    note = f"Together {frame['probability'].sum():.4f}. Where a path leads is counted in train."
    return Group(table, Text(note))
