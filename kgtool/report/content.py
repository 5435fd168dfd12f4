"""Renders the report's page from the facts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from kgtool.data.dataset import KNOWN_BY, KGDataset
from kgtool.evaluation.analysis.breakdown import MANY
from kgtool.evaluation.metrics import LEVEL, NEGATIVES
from kgtool.inference.layout import draw
from kgtool.inference.plot import short
from kgtool.inference.svg import dark_rules
from kgtool.models.scorers import ModelScorer
from kgtool.report import charts
from kgtool.report.cases import choose, count_ranks, describe, queries_of
from kgtool.report.embedding_map import embedding_map
from kgtool.report.facts import Facts
from kgtool.report.findings import FEW_QUERIES
from kgtool.report.names import Names, clean
from kgtool.report.tables import by_queries, groups_of, metric_rows
from kgtool.report.tasks import Task
from kgtool.report.words import clean_title, data_rows, date_of, duration, places
from kgtool.storage.templates import template_environment

# The groupings of the breakdown in addition to relations, with their headings.
BREAKDOWNS = {
    "category": "Cardinality",
    "degree": "Degree of the answer",
    "distance": "Distance",
    "entities": "Seen and unseen entities",
    "half_links": "Edges of the query’s relation (half-links)",
}


def render_page(facts: Facts, tasks: Sequence[Task]) -> str:
    """The whole page.

    Args:
        facts: the facts of the run.
        tasks: the tasks other than link prediction.

    Raises:
        RunError: if the evaluation does not fit the run's weights.
    """
    run, dataset, stored, names = facts.run, facts.dataset, facts.stored, facts.names
    scorer = facts.scorer
    split = stored.metrics["split"]
    splits = KNOWN_BY[split]
    by_count = count_ranks(dataset, queries_of(stored.ranks, dataset))
    best, worst = (
        describe(
            rows,
            stored.ranks,
            by_count,
            model=facts.scores,
            scorer=scorer,
            dataset=dataset,
            splits=splits,
        )
        for rows in choose(stored.ranks, by_count)
    )
    relations = by_queries(groups_of(stored.breakdown, "relation"))
    categories = groups_of(stored.breakdown, "category")
    history, info = run.history(), run.read_info()
    seconds = facts.origin.seconds
    return _environment(names).get_template("template.html").render(
        facts=facts,
        origin=facts.origin,
        tasks=tasks,
        title=clean_title(dataset.name, split),
        dataset=dataset,
        elsewhere=dataset.fingerprint != info["fingerprint"],
        split=split,
        filter=" + ".join(splits),
        metrics=stored.metrics,
        hits=stored.hits,
        rows=metric_rows(stored),
        level=f"{100 * LEVEL:g}\u00a0%",
        negatives=NEGATIVES,
        many=MANY,
        config=run.config.to_toml(),
        versions=info.get("versions", {}),
        date=date_of(run),
        training=None if seconds is None else duration(seconds),
        history=history,
        best_validation=run.best_validation() if history else None,
        data_rows=data_rows(dataset),
        breakdowns={
            name: (title, groups)
            for name, title in BREAKDOWNS.items()
            if (groups := groups_of(stored.breakdown, name))
        },
        relations=relations,
        most_relations=charts.MOST_RELATIONS,
        few=charts.FEW,
        few_queries=FEW_QUERIES,
        curve=charts.learning_curve(history) if history else None,
        relation_chart=charts.by_relation(relations, names),
        category_chart=charts.by_category(categories) if categories else None,
        rank_chart=charts.rank_histogram(stored.ranks),
        calibration=stored.calibration,
        calibration_command=next(
            (task.command for task in tasks if task.command.endswith("--task triples")), None
        ),
        calibration_chart=(
            None if stored.calibration is None else charts.calibration_curve(stored.calibration)
        ),
        calibration_error=(
            None if stored.calibration is None else charts.calibration_error(stored.calibration)
        ),
        best=best,
        worst=worst,
        first=int((stored.ranks["pessimistic"] == 1).sum()),
        reads_paths=scorer.passes is not None,
        has_states=scorer.has_states,
        map=_map(scorer, dataset, names),
        dark=dark_rules(),
    )  # fmt: skip


def _environment(names: Names) -> jinja2.Environment:
    environment = template_environment("report")
    environment.filters |= {
        "named": names,
        "cleaned": clean,
        "places": places,
        "count": lambda value: f"{value:,}",
        "drawn": lambda why: draw(why, names),
    }
    return environment


def _map(scorer: ModelScorer, dataset: KGDataset, names: Names) -> dict[str, Any] | None:
    entity_map = embedding_map(scorer, dataset)
    if entity_map is None:
        return None
    vocabulary, n = dataset.vocabulary, dataset.num_relations

    def role(kind: int) -> str:
        relation = short(names(vocabulary.relations[kind % n]))
        return f"{'head' if kind < n else 'tail'} of {relation}"

    labels = [names(vocabulary.entities[i]) for i in entity_map.entity.tolist()]
    return {
        "chart": charts.map_plot(entity_map, role, labels),
        "shown": len(entity_map.entity),
        "everyone": entity_map.everyone,
    }
