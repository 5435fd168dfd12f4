"""What a notebook does with a run: evaluate it, report on it, explain its answers, export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kgtool.blend import Blend, fit_blend
from kgtool.errors import DataError, RunError
from kgtool.evaluator import evaluate_model
from kgtool.explain import Explanation, explain_triple, name_path
from kgtool.export import export_embeddings
from kgtool.files import atomic_write
from kgtool.loaders.faults import nearest, quoted
from kgtool.loaders.labels import read_labels
from kgtool.metrics import HITS
from kgtool.model import PathModel
from kgtool.ops import keep_large_blocks
from kgtool.ranking import ScoresTails
from kgtool.results import Results
from kgtool.run import Run, versions
from kgtool.triples import KGDataset


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
    about: dict[str, Any] = {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    others = [_opened(other) for other in beside]
    for other in others:
        model = _blend(model, other, dataset, progress)
        tried = {f"{weight:g}": mrr for weight, mrr in model.mrr.items()}
        told = {"run": str(other.path), "weight": model.weight, "valid_mrr": tried}
        about.setdefault("with", []).append(told)
    results = Results(
        evaluate_model(model, dataset, split, progress=progress, hits=hits),
        dataset,
        about | {"versions": versions()},
        *(
            _result_file(run, kind, split, dataset, others)
            for kind in ("metrics.json", "breakdown.tsv", "ranks.tsv")
        ),
    )
    results.write()
    return results


def _blend(model: ScoresTails, beside: Run, dataset: KGDataset, progress: bool) -> Blend:
    own, words = beside.vocabulary, dataset.vocabulary
    same_entities = beside.config.inductive or own.entities == words.entities
    if own.relations != words.relations or not same_entities:
        raise RunError(
            f"{beside.path} has other labels, or other ids for them. Remedy: train it on the same "
            "files."
        )
    if not len(dataset.valid):
        raise DataError("the data hold no valid triples to choose the weight of another run by")
    return fit_blend(model, beside.model(dataset).scorer(), dataset, progress)


def _result_file(
    run: Run, kind: str, split: str, dataset: KGDataset, beside: Sequence[Run]
) -> Path:
    """A file of a split's results: it names other data than the run's own, and further runs."""
    own = dataset.fingerprint == run.info["fingerprint"]
    name, ending = kind.split(".")
    names = [name, *([] if own else [dataset.name])]
    names += [f"with-{other.path.name}" for other in beside]
    return run.path / ".".join([*names, split, ending])


def write_report(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> Path:
    """Write one HTML page about a run that `evaluate` was asked of; see `kgtool.page`.

    Args:
        run: a run or its folder.
        split: the one evaluated.
        data: the data set or its place; by default where it was when the run began.
        labels: a file of `id⇥label` lines: what to show for entities and relations.
        out: the page; by default `report.<split>.html` beside the evaluation's files.
        progress: show a progress bar.

    Returns:
        The file written.

    Raises:
        RunError, DataError: when run, data, evaluation or labels cannot be used.
        KGToolError: when the file cannot be written.
    """
    from kgtool.page.content import render_page  # not before: it imports matplotlib
    from kgtool.page.stored import KINDS, read_stored

    keep_large_blocks()
    run = _opened(run)
    command = f"kgtool evaluate {run.path}" + ("" if split == "test" else f" --split {split}")
    if isinstance(data, (str, Path)):
        command += f" --data {data}"
    dataset = _loaded(run, data)
    files = {kind: _result_file(run, kind, split, dataset, ()) for kind in KINDS}
    stored = read_stored(files, dataset, command)
    named = None if labels is None else read_labels(labels)
    page = render_page(run, dataset, stored, named, progress)
    out = _result_file(run, "report.html", split, dataset, ()) if out is None else Path(out)
    with atomic_write(out) as file:
        file.write(page)
    return out


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
