"""The model card of a run, in Markdown (Mitchell et al. 2019).

It has the sections of the cards of the shipped weights, such as `kgtool/pretrained/base.md`: Use,
Trained on, Figures, Where it fails, Licence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from kgtool.evaluation.metrics import LEVEL
from kgtool.report.facts import Facts
from kgtool.report.findings import FEW_QUERIES
from kgtool.report.names import clean
from kgtool.report.tables import MetricRow
from kgtool.report.words import data_rows, duration, places


def render_card(facts: Facts) -> str:
    """The card, as Markdown."""
    lines = [
        f"# Model card: {escaped(facts.run.place().name)}",
        "",
        f"{facts.model}; {facts.parameters:,} parameters.",
    ]
    for weight, path, kind in facts.added:
        lines.append(f"Added: {weight} times the scores of {escaped(path)} ({kind}).")
    lines += ["", " ".join(facts.summary)]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", *section(facts)]
    return "\n".join([*lines, ""])


def _use(facts: Facts) -> list[str]:
    run = shlex.quote(str(facts.run.place()))
    text = "It answers `(h, r, ?)` and `(?, r, t)`"
    text += ": it ranks answers, and whether one is true is for a person to check."
    return [text, "", f"    kgtool predict {run} HEAD RELATION '?'"]


def _trained(facts: Facts) -> list[str]:
    origin, dataset = facts.origin, facts.dataset
    rows = [
        (row["split"], f"{row['triples']:,}", f"{row['entities']:,}", f"{row['relations']:,}",
         f"{row['unseen_entities']:,}" if row["split"] != "train" else "")
        for row in data_rows(dataset)
    ]  # fmt: skip
    lines = [f"{origin.trained} The data set is {escaped(dataset.name)}.", ""]
    lines += table(("split", "triples", "entities", "relations", "entities not in train"), rows)
    if origin.sources:
        shares = [(escaped(name), f"{100 * share:.0f} %") for name, share in origin.sources]
        lines += ["", *table(("graph", "share of the steps"), shares)]
    about = {
        "selection": origin.selected,
        "time": None if origin.seconds is None else f"{duration(origin.seconds)}, with validations",
        "seed": origin.seed,
        "machine": origin.machine and escaped(origin.machine),
    }
    lines += ["", *(f"- {key}: {value}" for key, value in about.items() if value is not None)]
    if origin.command:
        lines += ["", f"    {origin.command}"]
    return lines


def _figures(facts: Facts) -> list[str]:
    stored, main = facts.stored, facts.main
    names = ["mrr", *(f"hits@{k}" for k in stored.hits)]
    rows = [
        (
            "**this run**",
            *(f"{places(main.metrics[name])} {_interval(main, name)}".rstrip() for name in names),
        )
    ]
    rows += [
        (f"baseline: {each.name}", *(places(each.metrics[name]) for name in names))
        for each in facts.baselines
    ]
    heads = ("", "MRR", *(f"Hits@{k}" for k in stored.hits))
    split, counts = stored.metrics["split"], stored.metrics["counts"]
    return [
        f"{split.capitalize()} split, {counts['queries']:,} queries, filtered, all "
        f"{counts['entities']:,} entities, both sides, realistic ties; in brackets the "
        f"{100 * LEVEL:g} % interval:",
        "",
        *table(heads, rows),
        "",
        "The baselines learn nothing; the command evaluates more of them:"
        if facts.baselines
        else "No baseline was computed. The command evaluates those that learn nothing:",
        "",
        f"    {facts.baseline_command}",
    ]


def _interval(row: MetricRow, name: str) -> str:
    if name not in row.low:
        return ""
    return f"({places(row.low[name])}–{places(row.high[name])})"


def _fails(facts: Facts) -> list[str]:
    lines = []
    if facts.weak:
        lines += ["Questions with a lower MRR than all together:", ""]
        rows = [
            (escaped(each.where(facts.names)), f"{each.queries:,}",
             f"{places(each.mrr)} ({places(each.low)}–{places(each.high)})")
            for each in facts.weak
        ]  # fmt: skip
        lines += [*table(("questions", "queries", "MRR"), rows), ""]
    else:
        lines += ["No group of questions has a clearly lower MRR than all together.", ""]
    unseen = facts.stored.metrics["counts"]["unseen_triples"]
    lines += [
        f"- {text}"
        for text, applies in (
            (f"Answers more than {facts.layers} edges away: no path reaches them, so all of them "
             "have one score.", facts.layers is not None),
            (f"{unseen:,} triples have an entity or a relation that train lacks.", unseen > 0),
            (f"{facts.small_relations:,} relations have fewer than {FEW_QUERIES} queries: their "
             "figures say little.", facts.small_relations > 0),
        )
        if applies
    ]  # fmt: skip
    lines.append(
        "- It repeats what the graph says: errors and gaps of the graph bias its answers. Do not "
        "use it alone for decisions about people."
    )
    return lines


def _licence(facts: Facts) -> list[str]:
    return [
        f"kgtool has the MIT licence. It does not know the terms of the data "
        f"({escaped(facts.dataset.name)}): check them before you share the weights. The folder of "
        "the run holds the labels of all entities and relations."
    ]


SECTIONS: Mapping[str, Callable[[Facts], list[str]]] = {
    "Use": _use,
    "Trained on": _trained,
    "Figures": _figures,
    "Where it fails": _fails,
    "Licence": _licence,
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; numbers are on the right."""
    lines = [tuple(heads), ("---", *["---:"] * (len(heads) - 1)), *map(tuple, rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def escaped(text: str) -> str:
    """The text for Markdown: its marks, HTML and line breaks are plain characters."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", clean(" ".join(text.split())))
