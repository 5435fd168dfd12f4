"""Ask a run for relations, for whether triples hold, and along paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgtool.api.runs import about_data, loaded, opened, result_file, scorers
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders import load_negatives
from kgtool.errors import DataError
from kgtool.evaluation.analysis.results import PathResults
from kgtool.evaluation.metrics import HITS
from kgtool.evaluation.tasks.path_composition import ComposedSteps, ScoresPaths
from kgtool.evaluation.tasks.path_evaluator import evaluate_path_queries
from kgtool.evaluation.tasks.path_queries import LENGTHS, MAX_ANSWERS, QUERIES, sample_path_queries
from kgtool.evaluation.tasks.relation_prediction import RelationEvaluation
from kgtool.evaluation.tasks.relation_prediction import evaluate_relations as find_relations
from kgtool.evaluation.tasks.triple_classification import TripleEvaluation
from kgtool.evaluation.tasks.triple_classification import evaluate_triples as tell_triples
from kgtool.models.scorers import Scorer
from kgtool.ops import keep_large_blocks
from kgtool.runs.run import Run
from kgtool.storage.files import write_json
from kgtool.storage.tables import save_table


def evaluate_relations(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    progress: bool = False,
    beside: Sequence[Run | str | Path] = (),
    hits: Sequence[int] = HITS,
) -> RelationEvaluation:
    """Relation prediction `(h, ?, t)` by a run, see `kgtool.evaluation.tasks.relation_prediction`.

    Also written into its folder, to `relations.<split>.json` and, a row a triple, to
    `relations.<split>.tsv`.

    Args:
        run, split, data, progress, hits: as of `evaluate`.
        beside: further runs of the same labels, whose scores count too.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run = opened(run)
    dataset = loaded(run, data)
    others = [opened(other) for other in beside]
    models = scorers(run, others, dataset)
    found = find_relations(models, dataset, split, tuple(hits), progress)
    about = about_data(dataset) | {"with": [str(other.path) for other in others]}
    save_table(
        found.ranks(dataset.vocabulary),
        result_file(run, "relations.tsv", split, dataset, others),
    )
    write_json(result_file(run, "relations.json", split, dataset, others), found.to_dict() | about)
    return found


def evaluate_triples(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    beside: Sequence[Run | str | Path] = (),
    sampled: bool = False,
    seed: int = 0,
) -> TripleEvaluation:
    """Triple classification by a run, see `kgtool.evaluation.tasks.triple_classification`.

    Also written into its folder, to `triples.<split>.json`, `calibration.<split>.tsv` and, a row a
    triple, to `triples.<split>.tsv`.

    Args:
        run, split, data: as of `evaluate`; the split is not `"train"`.
        beside: further runs of the same labels, which are asked too.
        sampled: draw negatives also where the data have some for valid and the split.
        seed: of the draws.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run = opened(run)
    dataset = loaded(run, data)
    for name in ("valid", split):
        if not len(dataset.split(name)):
            raise DataError(f"the {name} split of {dataset.name} holds no triples to classify")
    given = load_negatives(dataset.path, dataset.vocabulary) if dataset.path else {}
    has_all = not sampled and {"valid", split} <= given.keys()
    others = [opened(other) for other in beside]
    models = scorers(run, others, dataset)
    found = tell_triples(models, dataset, split, given if has_all else None, seed)
    about = about_data(dataset) | {"with": [str(other.path) for other in others]}

    def file(kind: str) -> Path:
        return result_file(run, kind, split, dataset, others)

    save_table(found.predictions(dataset.vocabulary), file("triples.tsv"))
    save_table(found.calibration, file("calibration.tsv"))
    write_json(file("triples.json"), found.to_dict() | about)
    return found


def evaluate_paths(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    lengths: Sequence[int] = LENGTHS,
    queries: int = QUERIES,
    max_answers: int = MAX_ANSWERS,
    seed: int = 0,
    compose: bool = False,
    progress: bool = False,
) -> PathResults:
    """Answer path queries `(h, r_1/…/r_k, ?)` drawn from the data; also written into the folder.

    A one-path run reads a path as a whole; an all-paths run answers its steps one after the other
    (see `kgtool.evaluation.tasks.path_composition`). The files are `paths.<split>.tsv` and `.json`,
    of composed steps where the run could read the path `paths.composed.<split>.tsv`; other data are
    named in them.

    Args:
        run: a run or its folder.
        split: `"valid"` or `"test"`, whose edges are held out.
        data: the data set or its place; by default where it was when the run began.
        lengths: relations in a path.
        queries: how many of each length, of those that need held-out edges and of those that do
            not.
        max_answers: queries of more answers in the whole graph are not asked.
        seed: of the walks that draw the queries.
        compose: also let a one-path run answer step by step.
        progress: show a progress bar.

    Raises:
        RunError, DataError: when the run or the data cannot be used, or no query can be drawn.
        ScoreError: when the model gives a score that is not finite.
        ValueError: for another split.
    """
    keep_large_blocks()
    run = opened(run)
    dataset = loaded(run, data)
    if split in ("valid", "test") and not len(dataset.split(split)):
        raise DataError(f"{dataset.name}: {split} holds no triples. Remedy: choose another split.")
    scorer = run.scorer(dataset)
    asked = sample_path_queries(dataset, split, lengths, queries, max_answers, seed)
    if not len(asked):
        raise DataError(
            f"{dataset.name}: no path query of at most {max_answers} answers was found. Remedy: "
            "allow more answers, or other lengths."
        )
    model: ScoresPaths
    if isinstance(scorer, Scorer) and not compose:
        model = scorer
    else:
        num_relations = dataset.num_relations
        known = answer_index(dataset.train, num_relations)
        model = ComposedSteps(scorer, known, dataset.num_entities)
    composed = model is not scorer
    kind = "paths.composed" if composed and isinstance(scorer, Scorer) else "paths"
    results = PathResults(
        evaluate_path_queries(model, dataset, split, asked, progress),
        composed,
        {"seed": seed, "max_answers": max_answers, **about_data(dataset)},
        *(result_file(run, f"{kind}.{ending}", split, dataset, ()) for ending in ("tsv", "json")),
    )
    results.write()
    return results
