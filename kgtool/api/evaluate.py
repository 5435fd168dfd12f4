"""Evaluate a run: link and relation prediction, triple classification, path queries, walks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgtool.api.runs import (
    AnyData,
    AnyRun,
    about_data,
    fitting,
    opened,
    result_file,
    scorers,
    walk_model,
    with_data,
)
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import SPLITS, KGDataset, check_not_empty, check_split
from kgtool.data.loaders import load_dataset, load_negatives
from kgtool.data.loaders.column_order import check_columns
from kgtool.distributed import process_group
from kgtool.errors import DataError
from kgtool.evaluation.analysis.results import (
    LinkResult,
    PathResult,
    RelationResult,
    TripleResult,
    WalkResult,
)
from kgtool.evaluation.baselines import baselines_of
from kgtool.evaluation.candidates import parse_candidates
from kgtool.evaluation.ensemble import Ensemble, fit_ensemble
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.evaluation.metrics import HITS
from kgtool.evaluation.tasks.path_composition import ComposedSteps, ScoresPaths
from kgtool.evaluation.tasks.path_evaluator import evaluate_path_queries
from kgtool.evaluation.tasks.path_queries import LENGTHS, MAX_ANSWERS, QUERIES, sample_path_queries
from kgtool.evaluation.tasks.relation_prediction import evaluate_relations as rank_relations
from kgtool.evaluation.tasks.triple_classification import evaluate_triples as classify_triples
from kgtool.evaluation.tasks.walk_perplexity import perplexity
from kgtool.inference.pairs import held_out_relations
from kgtool.models.scorers import ScoresTails
from kgtool.ops import keep_large_blocks
from kgtool.runs.run import Run
from kgtool.storage.files import refuse_existing

HELD_OUT = SPLITS[1:]


def evaluate(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    ensemble: Sequence[AnyRun] = (),
    hits: Sequence[int] = HITS,
    candidates: str = "all",
    progress: bool = False,
) -> LinkResult:
    """Link prediction metrics of a run, also written into its folder.

    The files are `metrics.<split>.json`, `breakdown.<split>.tsv` and `ranks.<split>.tsv`; on other
    data than the run's own, `metrics.<name of the data>.<split>.json` and so on. An all-paths model
    answers on any graph of the same relations: the train triples of that graph are its edges.

    Args:
        run: a run, its folder, or a predictor.
        split: `"train"`, `"valid"` or `"test"`.
        data: the data set or its path; by default the path that the run was trained on.
        ensemble: further runs with the same labels. Their scores are added one run after the other,
            each with the weight that gives the best valid MRR; see `kgtool.evaluation.ensemble`.
            Their folders appear in the file names, as in `metrics.with-<folder>.<split>.json`.
        hits: the k of Hits@k.
        candidates: the candidates that each answer is ranked against: `all` entities;
            `sampled:500`, 500 random entities per query; `types`, the entities that train has on
            that side of the relation; `types:FILE`, also those of the same types, from a file of
            `id⇥type` lines. All but `all` appear in the file names, as in
            `metrics.sampled-500.<split>.json`.
        progress: show a progress bar.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run, dataset = with_data(run, data, split)
    among = parse_candidates(candidates, dataset)
    # Of one run alone, processes that work together may hold a part of its entities each.
    model: ScoresTails = run.scorer(dataset) if ensemble else run.distributed_scorer(dataset)
    about = about_data(dataset)
    if name := run.shipped_weights():
        about["pretrained"] = name
    by_paths = not run.config.encoder or run.config.conditional
    if run.config.all_paths and by_paths and not ensemble:
        about["layers"] = run.config.all_paths.layers  # the model scores by paths alone
    others = [opened(other) for other in ensemble]
    for other in others:
        model = _ensemble(model, other, dataset, progress)
        tried = {f"{weight:g}": mrr for weight, mrr in model.mrr.items()}
        added = {"run": str(other.path), "weight": model.weight, "valid_mrr": tried}
        about.setdefault("with", []).append(added)
    metrics, breakdown, ranks = (
        result_file(run, kind, split, dataset, others, among=among)
        for kind in ("metrics.json", "breakdown.tsv", "ranks.tsv")
    )
    found = evaluate_model(model, dataset, split, progress=progress, hits=hits, candidates=among)
    result = LinkResult(found, dataset, about, metrics, {"breakdown": breakdown, "ranks": ranks})
    if process_group.rank() == 0:
        result.write()
    return result


def _ensemble(model: ScoresTails, other: Run, dataset: KGDataset, progress: bool) -> Ensemble:
    if not len(dataset.valid):
        raise DataError("the data hold no valid triples to choose the weight of another run by")
    second = fitting(other, dataset).scorer(dataset)
    return fit_ensemble(model, second, dataset, progress)


def evaluate_baselines(
    data: AnyData,
    split: str = "test",
    out: str | Path | None = None,
    *,
    hits: Sequence[int] = HITS,
    candidates: str = "all",
    progress: bool = False,
    overwrite: bool = False,
) -> dict[str, LinkResult]:
    """Link prediction metrics of baselines that learn nothing.

    The fastest come first. Ctrl-C ends the evaluation early and returns the finished baselines.

    Args:
        data: the data set or its path. If a header of train names a column time, timestamp, date,
            datetime or year, there is a baseline by recency and counting.
        split: `"train"`, `"valid"` or `"test"`.
        out: a folder that gets one folder per baseline, with the files that `evaluate` writes into
            a run's folder, so that `compare` can read them.
        hits: the k of Hits@k.
        candidates: as in `evaluate`.
        progress: show a progress bar.
        overwrite: replace results of an earlier evaluation in `out`.

    Returns:
        Name → result, of `kgtool.evaluation.baselines.baselines_of`.

    Raises:
        DataError: when the data cannot be used, or their columns may not be head, relation, tail.
        ConfigError: when `out` has such results already and `overwrite` is false.
        KGToolError: when a file cannot be written.
    """
    keep_large_blocks()
    dataset = data if isinstance(data, KGDataset) else load_dataset(data, times=True)
    check_columns(dataset)
    check_not_empty(dataset, [split])
    baselines = baselines_of(dataset)
    about = about_data(dataset)
    among = parse_candidates(candidates, dataset)
    part = f"{among.name}.{split}" if among else split
    if out is not None:
        files = (Path(out) / name / f"metrics.{part}.json" for name in baselines)
        refuse_existing(files, overwrite)
    found: dict[str, LinkResult] = {}
    for name, baseline in baselines.items():
        place = Path(out or "baselines") / name
        try:
            ranked = evaluate_model(
                baseline(dataset), dataset, split, progress=progress, hits=hits, candidates=among
            )
        except KeyboardInterrupt:
            if not found:
                raise
            break
        found[name] = LinkResult(
            ranked,
            dataset,
            {"baseline": name, **about},
            place / f"metrics.{part}.json",
            {kind: place / f"{kind}.{part}.tsv" for kind in ("breakdown", "ranks")},
        )
        if out is not None and process_group.rank() == 0:
            found[name].write()
    return found


def evaluate_relations(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    ensemble: Sequence[AnyRun] = (),
    hits: Sequence[int] = HITS,
    progress: bool = False,
) -> RelationResult:
    """Relation prediction `(h, ?, t)` by a run, see `kgtool.evaluation.tasks.relation_prediction`.

    A conditional run ranks relations as its predictions do: see
    `kgtool.inference.pairs.TripleChance`.

    Also written into the run's folder: `relations.<split>.json` and `relations.<split>.tsv`, one
    row per triple.

    Args:
        run, split, data, hits, progress: as in `evaluate`.
        ensemble: further runs with the same labels; the weights of their scores are fitted too.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run, dataset = with_data(run, data, split)
    others = [opened(other) for other in ensemble]
    model = held_out_relations(scorers(run, others, dataset), dataset, split, progress)
    found = rank_relations(model, dataset, split, tuple(hits), progress)
    about = about_data(dataset) | {"with": [str(other.path) for other in others]}
    metrics, table = (
        result_file(run, kind, split, dataset, others)
        for kind in ("relations.json", "relations.tsv")
    )
    result = RelationResult(found, dataset, about, metrics, {"relations": table})
    result.write()
    return result


def evaluate_triples(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    ensemble: Sequence[AnyRun] = (),
    sample_negatives: bool = False,
    seed: int = 0,
) -> TripleResult:
    """Triple classification by a run, see `kgtool.evaluation.tasks.triple_classification`.

    Also written into the run's folder: `triples.<split>.json`, `calibration.<split>.tsv` and
    `triples.<split>.tsv`, one row per triple.

    Args:
        run, split, data: as in `evaluate`; the split is `"valid"` or `"test"`.
        ensemble: further runs with the same labels; the weights of their scores are fitted too.
        sample_negatives: sample negatives even if the data have negatives for valid and the split.
        seed: random seed of the sampled negatives.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ConfigError: for another split.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    check_split(split, HELD_OUT)
    run, dataset = with_data(run, data, "valid", split)
    given = load_negatives(dataset.path, dataset.vocabulary) if dataset.path else {}
    has_all = not sample_negatives and {"valid", split} <= given.keys()
    others = [opened(other) for other in ensemble]
    models = scorers(run, others, dataset)
    found = classify_triples(models, dataset, split, given if has_all else None, seed)
    about = about_data(dataset) | {"with": [str(other.path) for other in others]}
    metrics, calibration, triples = (
        result_file(run, kind, split, dataset, others)
        for kind in ("triples.json", "calibration.tsv", "triples.tsv")
    )
    files = {"calibration": calibration, "triples": triples}
    result = TripleResult(found, dataset, about, metrics, files)
    result.write()
    return result


def evaluate_paths(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    lengths: Sequence[int] = LENGTHS,
    num_queries: int = QUERIES,
    max_answers: int = MAX_ANSWERS,
    seed: int = 0,
    compose: bool = False,
    progress: bool = False,
) -> PathResult:
    """Answer path queries `(h, r_1/…/r_k, ?)` drawn from the data; also written into the folder.

    A run of one path alone reads the whole path; others answer its steps one after the other (see
    `kgtool.evaluation.tasks.path_composition`). The files are `paths.<split>.tsv` and `.json`, or
    `paths.composed.<split>.tsv` and `.json` with `compose`; the names of other data appear in them.

    Args:
        run: a run, its folder, or a predictor.
        split: `"valid"` or `"test"`, whose edges are held out.
        data: the data set or its path; by default the path that the run was trained on.
        lengths: numbers of relations in a path.
        num_queries: queries per length that need held-out edges, and as many that do not.
        max_answers: skip queries with more answers than this in the whole graph.
        seed: random seed of the walks that sample the queries.
        compose: a one-path run also answers step by step.
        progress: show a progress bar.

    Raises:
        RunError, DataError: when the run or the data cannot be used, or no query can be drawn.
        ConfigError: for another split.
        ScoreError: when the model gives a score that is not finite.
    """
    keep_large_blocks()
    check_split(split, HELD_OUT)
    run, dataset = with_data(run, data, split)
    scorer = run.scorer(dataset)
    queries = sample_path_queries(
        dataset, split, lengths, count=num_queries, max_answers=max_answers, seed=seed
    )
    if not len(queries):
        raise DataError(
            f"{dataset.name}: the walks gave no path query with at most {max_answers} answers. "
            "Remedy: allow more answers, or choose other lengths."
        )
    model: ScoresPaths
    if scorer.scores_paths and not compose:
        model = scorer
    else:
        num_relations = dataset.num_relations
        known = answer_index(dataset.train, num_relations)
        model = ComposedSteps(scorer, known, dataset.num_entities)
    composed = model is not scorer
    kind = "paths.composed" if composed and scorer.scores_paths else "paths"
    about = {
        "answered": "steps composed" if composed else "path read",
        "seed": seed,
        "max_answers": max_answers,
        **about_data(dataset),
    }
    found = evaluate_path_queries(model, dataset, split, queries, progress)
    metrics, table = (
        result_file(run, f"{kind}.{ending}", split, dataset) for ending in ("json", "tsv")
    )
    result = PathResult(found, dataset, about, metrics, {"paths": table})
    result.write()
    return result


def evaluate_walks(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    num_walks: int = 2000,
    seed: int = 0,
) -> WalkResult:
    """The perplexity of held-out walks, also written into the run's folder: `walks.<split>.json`.

    Args:
        run: a run trained with `one_path.walk_ratio`, or its folder.
        split: `"train"`, `"valid"` or `"test"`; each walk has an edge of it.
        data: the data set or its path; by default the path that the run was trained on.
        num_walks: number of walks.
        seed: random seed of the walks.

    Raises:
        RunError, DataError: when run or data cannot be used.
    """
    run, dataset = with_data(run, data, split)
    model, length = walk_model(run, dataset)
    found = perplexity(
        model.reader(), dataset, split, max_length=length, count=num_walks, seed=seed
    )
    file = result_file(run, "walks.json", split, dataset)
    result = WalkResult(found, dataset, about_data(dataset), file, {})
    result.write()
    return result
