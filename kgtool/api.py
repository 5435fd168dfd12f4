"""What a notebook does with a run: evaluate it, explain its answers, export it, go walks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from kgtool.blend import Blend, fit_blend
from kgtool.classification import TripleEvaluation
from kgtool.classification import evaluate_triples as tell_triples
from kgtool.errors import DataError, RunError
from kgtool.evaluator import evaluate_model
from kgtool.explain import Explanation, explain_triple, name_path
from kgtool.export import export_embeddings
from kgtool.files import write_json
from kgtool.loaders import load_negatives
from kgtool.loaders.faults import nearest, quoted
from kgtool.metrics import HITS
from kgtool.model import KGModel, PathModel, Scorer
from kgtool.ops import keep_large_blocks
from kgtool.path_evaluator import evaluate_path_queries
from kgtool.path_queries import LENGTHS, MAX_ANSWERS, QUERIES, sample_path_queries
from kgtool.path_scores import ComposedSteps, ScoresPaths
from kgtool.perplexity import WalkPerplexity, perplexity
from kgtool.ranking import ScoresTails
from kgtool.relation_prediction import RelationEvaluation
from kgtool.relation_prediction import evaluate_relations as find_relations
from kgtool.results import PathResults, Results
from kgtool.run import Run, versions
from kgtool.tables import save_table
from kgtool.triples import AnswerIndex, KGDataset, with_inverses
from kgtool.walk_search import likeliest_routes, next_steps


def evaluate(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    progress: bool = False,
    beside: Sequence[Run | str | Path] = (),
    hits: Sequence[int] = HITS,
) -> Results:
    """Link prediction metrics of a run, also written into its folder.

    The files are `metrics.<split>.json`, `breakdown.<split>.tsv` and `ranks.<split>.tsv`; on other
    data than the run's own, `metrics.<name of the data>.<split>.json` and so on: an all-paths model
    answers on any graph of the same relations, whose train triples are the paths' edges.

    Args:
        run: a run or its folder.
        split: `"train"`, `"valid"` or `"test"`.
        data: the data set or its place; by default where it was when the run began.
        progress: show a progress bar.
        beside: further runs of the same labels, whose scores are added one after the other, each
            by the weight that ranks valid best; see `kgtool.blend`. Their folders then stand in
            the files' names, as in `metrics.with-<folder>.<split>.json`.
        hits: the k of Hits@k.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run = _opened(run)
    dataset = _loaded(run, data)
    model: ScoresTails = run.model(dataset).scorer()
    about = _about(dataset)
    others = [_opened(other) for other in beside]
    for other in others:
        model = _blend(model, other, dataset, progress)
        tried = {f"{weight:g}": mrr for weight, mrr in model.mrr.items()}
        told = {"run": str(other.path), "weight": model.weight, "valid_mrr": tried}
        about.setdefault("with", []).append(told)
    results = Results(
        evaluate_model(model, dataset, split, progress=progress, hits=hits),
        dataset,
        about,
        *(
            result_file(run, kind, split, dataset, others)
            for kind in ("metrics.json", "breakdown.tsv", "ranks.tsv")
        ),
    )
    results.write()
    return results


def evaluate_relations(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    progress: bool = False,
    beside: Sequence[Run | str | Path] = (),
    hits: Sequence[int] = HITS,
) -> RelationEvaluation:
    """Relation prediction `(h, ?, t)` by a run, see `kgtool.relation_prediction`.

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
    run = _opened(run)
    dataset = _loaded(run, data)
    others = [_opened(other) for other in beside]
    models = [run.model(dataset).scorer()]
    models += [_fitting(other, dataset).model(dataset).scorer() for other in others]
    found = find_relations(models, dataset, split, tuple(hits), progress)
    about = _about(dataset) | {"with": [str(other.path) for other in others]}
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
    """Triple classification by a run, see `kgtool.classification`.

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
    run = _opened(run)
    dataset = _loaded(run, data)
    for name in ("valid", split):
        if not len(dataset.split(name)):
            raise DataError(f"the {name} split of {dataset.name} holds no triples to classify")
    given = load_negatives(dataset.path, dataset.vocabulary) if dataset.path else {}
    has_all = not sampled and {"valid", split} <= given.keys()
    others = [_opened(other) for other in beside]
    models = [run.model(dataset).scorer()]
    models += [_fitting(other, dataset).model(dataset).scorer() for other in others]
    found = tell_triples(models, dataset, split, given if has_all else None, seed)
    about = _about(dataset) | {"with": [str(other.path) for other in others]}

    def file(kind: str) -> Path:
        return result_file(run, kind, split, dataset, others)

    save_table(found.predictions(dataset.vocabulary), file("triples.tsv"))
    save_table(found.calibration, file("calibration.tsv"))
    write_json(file("triples.json"), found.to_dict() | about)
    return found


def _about(dataset: KGDataset) -> dict[str, Any]:
    return {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }


def _fitting(beside: Run, dataset: KGDataset) -> Run:
    """A run that is asked beside another: it must know the same labels by the same ids."""
    own, words = beside.vocabulary, dataset.vocabulary
    same_entities = beside.config.inductive or own.entities == words.entities
    if own.relations != words.relations or not same_entities:
        raise RunError(
            f"{beside.path} has other labels, or other ids for them. Remedy: train it on the same "
            "files."
        )
    return beside


def _blend(model: ScoresTails, beside: Run, dataset: KGDataset, progress: bool) -> Blend:
    if not len(dataset.valid):
        raise DataError("the data hold no valid triples to choose the weight of another run by")
    second = _fitting(beside, dataset).model(dataset).scorer()
    return fit_blend(model, second, dataset, progress)


def result_file(run: Run, kind: str, split: str, dataset: KGDataset, beside: Sequence[Run]) -> Path:
    """A file of a split's results: it names other data than the run's own, and further runs."""
    own = dataset.fingerprint == run.info["fingerprint"]
    name, ending = kind.rsplit(".", 1)
    names = [name, *([] if own else [dataset.name])]
    names += [f"with-{other.path.name}" for other in beside]
    return run.path / ".".join([*names, split, ending])


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
    (see `kgtool.path_scores`). The files are `paths.<split>.tsv` and `.json`, of composed steps
    where the run could read the path `paths.composed.<split>.tsv`; other data are named in them.

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
    run = _opened(run)
    dataset = _loaded(run, data)
    if split in ("valid", "test") and not len(dataset.split(split)):
        raise DataError(f"{dataset.name}: {split} holds no triples. Remedy: choose another split.")
    scorer = run.model(dataset).scorer()
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
        known = AnswerIndex(with_inverses(dataset.train, num_relations), 2 * num_relations)
        model = ComposedSteps(scorer, known, dataset.num_entities)
    composed = model is not scorer
    kind = "paths.composed" if composed and isinstance(scorer, Scorer) else "paths"
    results = PathResults(
        evaluate_path_queries(model, dataset, split, asked, progress),
        composed,
        {
            "seed": seed,
            "max_answers": max_answers,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "versions": versions(),
        },
        *(result_file(run, f"{kind}.{ending}", split, dataset, ()) for ending in ("tsv", "json")),
    )
    results.write()
    return results


def export(
    run: Run | str | Path, out: str | Path, data: KGDataset | str | Path | None = None
) -> list[Path]:
    """Write a run's entity and relation states to a folder: TSV, projector pair, word2vec.

    The states are the encoder's, so they hold what the train graph says; inverses included. Of an
    all-paths model, an entity's is the one that its own pass leaves at it, a relation's the part of
    its query that such states are multiplied with.

    Args:
        run: a run or its folder.
        out: the folder; see `kgtool.export` for its files.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        The files written.

    Raises:
        RunError, DataError: when run or data cannot be used.
        KGToolError: when a file cannot be written.
    """
    run = _opened(run)
    dataset = _loaded(run, data)
    scorer = run.model(dataset).scorer()
    return export_embeddings(dataset.vocabulary, scorer.entities, scorer.relations, out)


def explain(
    run: Run | str | Path,
    head: str,
    relation: str,
    tail: str,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> Explanation:
    """The relation paths that carried the score of a triple, strongest first.

    Args:
        run: an all-paths run or its folder.
        head, relation, tail: labels.
        top: most paths to give.
        data: the data set or its place; by default where it was when the run began.

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = _opened(run)
    dataset = _loaded(run, data)
    model = run.model(dataset)
    if not isinstance(model, PathModel):
        raise RunError(
            f"{run.path} reads one path at a time, its scores have no paths to show. Remedy: train "
            "with an [all_paths] section."
        )
    words = dataset.vocabulary
    triple = (
        _id_of(head, words.entity_ids, "entity"),
        _id_of(relation, words.relation_ids, "relation"),
        _id_of(tail, words.entity_ids, "entity"),
    )
    scorer = model.cpu().scorer()
    found = explain_triple(scorer.decoder, scorer.graph, triple, feed=scorer.feed)[:top]
    return Explanation((head, relation, tail), tuple(name_path(path, words) for path in found))


def walks(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    count: int = 2000,
    seed: int = 0,
) -> WalkPerplexity:
    """The perplexity of held-out walks, also written into the run's folder: `walks.<split>.json`.

    Args:
        run: a run that reads walks (`one_path.walks`), or its folder.
        split: `"train"`, `"valid"` or `"test"`; each walk takes an edge of it.
        data: the data set or its place; by default where it was when the run began.
        count: how many walks.
        seed: draws them.

    Raises:
        RunError, DataError: when run or data cannot be used.
    """
    run = _opened(run)
    dataset = _loaded(run, data)
    model, length = _walking(run, dataset)
    found = perplexity(model.reader(), dataset, split, length, count, seed)
    about = {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }
    file = result_file(run, "walks.json", split, dataset, ())
    write_json(file, found.to_dict() | about)
    return replace(found, file=file)


def next_step(
    run: Run | str | Path,
    walk: Sequence[str],
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> pd.DataFrame:
    """The likeliest next steps of a walk, likeliest first.

    Args:
        run: a run that reads walks (`one_path.walks`), or its folder.
        walk: labels of an entity, a relation, an entity and so on; `^r` is the relation `r` walked
            backwards.
        top: most steps to give.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        A row a step: `relation`, `entity`, their `probability` given the walk, that `of_relation`
        alone, and whether train holds it (`known`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = _opened(run)
    if len(walk) % 2 == 0:
        raise DataError(
            f"a walk of {len(walk)} labels does not end at an entity. Remedy: an entity, or an "
            "entity, a relation, an entity and so on."
        )
    dataset = _loaded(run, data)
    model, _ = _walking(run, dataset)
    words = dataset.vocabulary
    entities = [_id_of(label, words.entity_ids, "entity") for label in walk[::2]]
    relations = [_id_of(label, words.step_ids, "relation") for label in walk[1::2]]
    found = next_steps(model.reader(), model.graph, entities, relations, top)
    rows = (
        (words.steps[s.relation], words.entities[s.entity], s.probability, s.of_relation, s.known)
        for s in found
    )
    columns = ["relation", "entity", "probability", "of_relation", "known"]
    return pd.DataFrame(rows, columns=columns)


def routes(
    run: Run | str | Path,
    head: str,
    tail: str | None = None,
    length: int | None = None,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> pd.DataFrame:
    """The likeliest relation paths from a head, or from a head to a tail, likeliest first.

    Args:
        run: a run that reads walks (`one_path.walks`), or its folder.
        head, tail: labels of entities.
        length: most relations of a path; by default that of the walks that the run learned from.
        top: most paths to give.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        A row a path: its relations (`path`, a tuple; `^r` is the relation `r` walked backwards),
        the `probability` that a walk from the head, to the tail, takes these and then ends, how
        many entities it leads to in train (`ends`) and, with a tail, whether the tail is one of
        them (`arrives`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = _opened(run)
    dataset = _loaded(run, data)
    model, longest = _walking(run, dataset)
    length = longest if length is None else length
    if length > longest:
        raise RunError(
            f"{run.path} has learned from walks of at most {longest} relations. Remedy: ask for no "
            f"more, or train with one_path.max_path_length={length}."
        )
    words = dataset.vocabulary
    ids = [_id_of(label, words.entity_ids, "entity") for label in (head, tail) if label is not None]
    goal = ids[1] if tail is not None else None
    found = likeliest_routes(model.reader(), model.graph, ids[0], goal, length, top)
    table = pd.DataFrame(
        [
            (tuple(words.steps[r] for r in route.relations), route.probability, route.ends)
            for route in found
        ],
        columns=["path", "probability", "ends"],
    )
    return table if tail is None else table.assign(arrives=[route.arrives for route in found])


def _walking(run: Run, dataset: KGDataset) -> tuple[KGModel, int]:
    """A model that reads walks, and the length of the longest that it learned from."""
    settings = run.config.one_path
    if not (settings and settings.walks):
        raise RunError(
            f"{run.path} has not learned to read walks. Remedy: train with an [one_path] section "
            "and one_path.walks=0.25, say."
        )
    model = run.model(dataset)
    assert isinstance(model, KGModel)
    return model, settings.max_path_length


def _id_of(label: str, ids: Mapping[str, int], kind: str) -> int:
    if label in ids:
        return ids[label]
    like = nearest(label, ids)
    hint = f" (is it {quoted(like)}?)" if like else ""
    raise DataError(f"no {kind} {quoted(label)}{hint}. Remedy: use a label of the data.")


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else Run.open(run)


def _loaded(run: Run, data: KGDataset | str | Path | None) -> KGDataset:
    return data if isinstance(data, KGDataset) else run.dataset(data)
