"""Renders the report from a run's folder, its data and its model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from kgtool.config import Config
from kgtool.data.dataset import KNOWN_BY, SPLITS, KGDataset
from kgtool.errors import DataError
from kgtool.evaluation.analysis.breakdown import MANY
from kgtool.evaluation.ensemble import Ensemble
from kgtool.evaluation.metrics import LEVEL, NEGATIVES
from kgtool.inference.plot import short
from kgtool.models.scorers import ModelScorer, Scorer
from kgtool.report import charts
from kgtool.report.cases import choose, count_ranks, describe, queries_of
from kgtool.report.embedding_map import embedding_map
from kgtool.report.graphs import draw
from kgtool.report.names import Names, clean
from kgtool.report.stored import Stored
from kgtool.report.tables import by_queries, groups_of, metric_rows
from kgtool.runs.run import LOG, Run
from kgtool.storage.templates import template_environment

# The groupings of the breakdown in addition to relations, with their headings.
BREAKDOWNS = {
    "category": "Cardinality",
    "degree": "Degree of the answer",
    "distance": "Distance",
    "entities": "Seen and unseen entities",
    "half_links": "Edges of the query’s relation (half-links)",
}


# The one-path decoder, by its cell.
READERS = {
    "gru": "A GRU that reads one path",
    "transe": "TransE’s translations along one path",
    "distmult": "DistMult’s product along one path",
    "complex": "ComplEx’s product along one path",
    "rotate": "RotatE’s rotations along one path",
    "tucker": "TuckER’s core tensor along one path",
}


def render_page(
    run: Run,
    dataset: KGDataset,
    stored: Stored,
    *,
    labels: Mapping[str, str] | None = None,
    progress: bool = False,
    ensemble: Sequence[Run] = (),
) -> str:
    """The whole page.

    Args:
        run: the run.
        dataset: the evaluated data.
        stored: the run's evaluation.
        labels: label → readable name, for some entities and relations.
        progress: show a progress bar.
        ensemble: the further runs of an ensemble, as many as `stored` has weights.

    Raises:
        RunError: if the evaluation does not fit the run's weights.
        DataError: if `labels` has no label of the data.
    """
    vocabulary = dataset.vocabulary
    if labels and not any(
        label in labels for label in (*vocabulary.entities, *vocabulary.relations)
    ):
        raise DataError(
            "the file of names has no entity or relation of the data. Remedy: check the file."
        )
    names = Names(labels or {})
    model = run.model(dataset).cpu()
    scorer = model.scorer()
    scores: Scorer = scorer
    for other, weight in zip(ensemble, stored.weights, strict=True):
        scores = Ensemble(scores, other.model(dataset).cpu().scorer(), weight, {})
    split = stored.metrics["split"]
    splits = KNOWN_BY[split]
    by_count = count_ranks(dataset, queries_of(stored.ranks, dataset))
    best, worst = (
        describe(
            rows,
            stored.ranks,
            by_count,
            model=scores,
            scorer=scorer,
            dataset=dataset,
            splits=splits,
        )
        for rows in choose(stored.ranks, by_count)
    )
    relations = by_queries(groups_of(stored.breakdown, "relation"))
    categories = groups_of(stored.breakdown, "category")
    history, info = run.history(), run.read_info()
    seconds = history[-1]["seconds"] if history else None
    return _environment(names).get_template("template.html").render(
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
        model=describe_model(run.config),
        added=[
            (weight, other.path.name, describe_model(other.config))
            for other, weight in zip(ensemble, stored.weights, strict=True)
        ],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
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
        curve=charts.learning_curve(history) if history else None,
        relation_chart=charts.by_relation(relations, names),
        category_chart=charts.by_category(categories) if categories else None,
        rank_chart=charts.rank_histogram(stored.ranks),
        calibration=stored.calibration,
        calibration_chart=(
            None if stored.calibration is None else charts.calibration_curve(stored.calibration)
        ),
        calibration_error=(
            None if stored.calibration is None else charts.calibration_error(stored.calibration)
        ),
        best=best,
        worst=worst,
        reads_paths=scorer.passes is not None,
        has_states=scorer.has_states,
        map=_map(scorer, dataset, names),
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


def places(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of digits; a dash for None or NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def clean_title(name: str, split: str) -> str:
    """The title of the page."""
    return f"{clean(name)}: {split}"


def describe_model(config: Config) -> str:
    """A sentence that describes the model of a configuration."""
    if config.combined:
        one_path, all_paths = map(describe_model, config.parts.values())
        return f"{all_paths}. Added, with weights fitted on valid: {one_path}"
    encoder, paths = config.encoder, config.all_paths
    layers = 0 if encoder is None else encoder.layers
    fed = "entity embeddings"
    if encoder is not None and layers:
        basis = encoder.decomposition == "basis"
        kind = f"{encoder.num_bases} bases" if basis else f"{encoder.num_blocks} blocks"
        many = "one layer" if layers == 1 else f"{layers} layers"
        fed = f"an R-GCN encoder of {many} ({kind})"
    if paths is not None:
        text = f"A GRU that reads all paths of up to {paths.layers} edges from a head"
        return (
            f"{text}, fed by {fed}; {config.dim} dims" if encoder else f"{text}; {config.dim} dims"
        )
    reader = READERS[config.one_path.cell if config.one_path else "gru"]
    return f"{reader} over {fed}; {config.dim} dims"


def date_of(run: Run) -> str | None:
    """The date on which training began, from the log; None if unknown."""
    try:
        with (run.path / LOG).open(encoding="utf-8") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError):
        return None
    match = re.match(r"\d{4}-\d\d-\d\d", line)
    return match.group() if match else None


def duration(seconds: float) -> str:
    """A short text such as `48 s`, `3.5 min`, `125 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"


def data_rows(dataset: KGDataset) -> list[dict[str, Any]]:
    """Per split, the numbers of triples, entities and relations, and of those unseen in train."""
    seen = {"entities": dataset.train[:, [0, 2]], "relations": dataset.train[:, 1]}
    known = {name: set(ids.flatten().tolist()) for name, ids in seen.items()}
    rows = []
    for split in SPLITS:
        triples = dataset.split(split)
        entities = set(triples[:, [0, 2]].flatten().tolist())
        relations = set(triples[:, 1].tolist())
        rows.append(
            {
                "split": split,
                "triples": len(triples),
                "entities": len(entities),
                "relations": len(relations),
                "unseen_entities": len(entities - known["entities"]),
                "unseen_relations": len(relations - known["relations"]),
            }
        )
    return rows


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
