"""What the page and the card of a run say, gathered from its folder, its data and its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kgtool.data.dataset import KGDataset
from kgtool.errors import DataError
from kgtool.evaluation.ensemble import Ensemble
from kgtool.models.scorers import ModelScorer, Scorer
from kgtool.report.findings import (
    Baseline,
    Weakness,
    baselines_of_report,
    small_relations,
    summary,
    weaknesses,
)
from kgtool.report.names import Names
from kgtool.report.origin import Origin, origin_of
from kgtool.report.stored import Stored
from kgtool.report.tables import MetricRow, metric_rows
from kgtool.report.words import describe_model, evaluate_command
from kgtool.runs.run import Run


@dataclass(frozen=True, eq=False)
class Facts:
    """What the page and the card of a run say.

    Attributes:
        run, dataset, stored: the run, the evaluated data and the evaluation.
        names: readable names of entities and relations.
        model: a sentence that describes the model.
        parameters: number of parameters.
        origin: where the weights come from.
        summary: what the figures say, in sentences.
        main: the metrics of both sides, filtered, realistic ties.
        baselines: baselines on the same queries; none if they would take long.
        baseline_command: the command that evaluates all baselines.
        weak: the groups of queries with the lowest MRR.
        small_relations: number of relations with fewer than `FEW_QUERIES` queries.
        added: the weights, folders and models of the further runs of an ensemble.
        scores: scores triples: the run, or the ensemble.
        scorer: the run's own scorer.
    """

    run: Run
    dataset: KGDataset
    stored: Stored
    names: Names
    model: str
    parameters: int
    origin: Origin
    summary: Sequence[str]
    main: MetricRow
    baselines: Sequence[Baseline]
    baseline_command: str
    weak: Sequence[Weakness]
    small_relations: int
    added: Sequence[tuple[float, str, str]]
    scores: Scorer
    scorer: ModelScorer

    @property
    def layers(self) -> int | None:
        """The most edges of a path, of a model that scores by paths alone."""
        layers = self.stored.metrics.get("layers")
        return layers if isinstance(layers, int) else None


def facts_of(
    run: Run,
    dataset: KGDataset,
    stored: Stored,
    *,
    labels: Mapping[str, str] | None = None,
    progress: bool = False,
    ensemble: Sequence[Run] = (),
) -> Facts:
    """Gather the facts of a run.

    Args:
        run: the run.
        dataset: the evaluated data.
        stored: the run's evaluation.
        labels: label → readable name, for some entities and relations.
        progress: show a progress bar.
        ensemble: the further runs of an ensemble, as many as `stored` has weights.

    Raises:
        RunError: if a file of the run is missing or damaged.
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
    origin = origin_of(run)
    model = run.model(dataset).cpu()
    scorer = model.scorer()
    scores: Scorer = scorer
    for other, weight in zip(ensemble, stored.weights, strict=True):
        scores = Ensemble(scores, other.model(dataset).cpu().scorer(), weight, {})
    split = stored.metrics["split"]
    baselines = baselines_of_report(dataset, split, stored, progress)
    return Facts(
        run=run,
        dataset=dataset,
        stored=stored,
        names=names,
        model=describe_model(run.config),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        origin=origin,
        summary=summary(stored, names(dataset.name), baselines),
        main=metric_rows(stored)["filtered"][0],
        baselines=baselines,
        baseline_command=evaluate_command(
            "--data", dataset.path or "DATA", "--out", "runs/baselines", split=split
        ),
        weak=weaknesses(stored),
        small_relations=small_relations(stored),
        added=[
            (weight, other.path.name, describe_model(other.config))
            for other, weight in zip(ensemble, stored.weights, strict=True)
        ],
        scores=scores,
        scorer=scorer,
    )
