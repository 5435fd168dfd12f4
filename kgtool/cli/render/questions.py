"""Tables of relation prediction, triple classification, path queries and explanations."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.cli.render.ranking import three
from kgtool.evaluation.analysis.results import PathResult
from kgtool.evaluation.metrics import LEVEL
from kgtool.evaluation.tasks.path_evaluator import METRICS
from kgtool.evaluation.tasks.relation_prediction import RelationEvaluation
from kgtool.evaluation.tasks.triple_classification import TripleEvaluation
from kgtool.inference.explain import Explanation


def relations_table(found: RelationEvaluation) -> Group:
    """The table of `kgtool evaluate --task relations`."""
    table = Table(
        title=f"{found.split}: the relation of {len(found.triples):,} pairs",
        box=box.SIMPLE, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("ranked by")
    table.add_column("ties")
    ranked_by = "scores and counts" if found.weights else "scores"
    rows = [(ranked_by, policy, m) for policy, m in found.filtered.items()]
    rows += [(f"{ranked_by}, raw", "realistic", found.raw["realistic"])]
    rows += [("counts alone", "realistic", found.counted["realistic"])]
    names = ["mrr", "mr", *(name for name in rows[0][2] if name.startswith("hits@"))]
    for name in names:
        table.add_column(name.upper() if "@" not in name else name.capitalize(), justify="right")
    for by, policy, m in rows:
        table.add_row(by, policy, f"{m['mrr']:.4f}", *(f"{m[name]:.3f}" for name in names[1:]))
    fitted = "Weights" if found.weights else "Probabilities"
    note = f"Filtered by other known relations of the pair. {fitted} fitted on valid"
    note += ", so these metrics are optimistic." if found.split == "valid" else "."
    return Group(table, Text(note))


def triples_table(found: TripleEvaluation) -> Group:
    """The tables of `kgtool evaluate --task triples`: the metrics and the calibration."""
    counts = found.to_dict()["counts"]
    kind = "from the data" if found.negatives == "given" else "sampled"
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
    note = "Thresholds per relation and probabilities fitted on valid"
    note += ", so these metrics are optimistic." if found.split == "valid" else "."
    return Group(table, bins, Text(note))


def paths_table(result: PathResult) -> Group:
    """The table of `kgtool evaluate --task paths`."""
    found = result.evaluation
    table = Table(
        title=f"{found.split}: {len(found.queries):,} path queries, {result.about['answered']}",
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
            *(three(value.get((answers, length, metric))) for metric in (quantile, typed)),
            f"{row['value']:.4f}", f"{row['low']:.3f}-{row['high']:.3f}",
            three(value.get((answers, length, hits[-1]))),
            end_section=groups[i + 1 : i + 2] != [] and groups[i + 1][0] != group[0],
        )  # fmt: skip
    drawn = found.queries.drawn
    too_many, walks = sum(d.too_many for d in drawn), sum(d.walks for d in drawn)
    notes = [
        "Each query has the mean over its ranked answers, filtered by its other answers. Held-out "
        "answers need an edge that train lacks, train answers do not.",
        "MQ (mean quantile) and H@10: against wrong entities that are tails of the path's last "
        "relation (Guu et al. 2015). MRR and Hits@10: against all entities.",
        f"{too_many:,} of {walks:,} walks gave queries with more than "
        f"{result.about['max_answers']:,} answers, which were skipped.",
    ]
    return Group(table, *(Text(note) for note in notes))


def explanation_table(found: Explanation) -> Group | Text:
    """The table of `kgtool explain`."""
    head, relation, tail = found.triple
    if not found.paths:
        return Text(
            f"The model reads no path from {head} to {tail}. Such an answer has the score "
            f"{found.score:.2f}."
        )
    table = Table(
        title=Text(f"{head} --{relation}--> {tail}"), box=box.SIMPLE, padding=(0, 1, 0, 0)
    )
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("fall", justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    for path in found.paths:
        table.add_row(f"{path.weight:.2f}", f"{path.fall:.2f}", Text(str(path)))
    notes = [
        found.parts(),
        "Fall: by how much the score falls without the edges of the path; negative if it rises. "
        "Weight: its share of the fall, which paths over the same edges divide.",
    ]
    return Group(table, *map(Text, notes))
