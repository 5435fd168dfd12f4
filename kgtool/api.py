"""What a notebook does with a run: evaluate it, compare it, explain its answers, export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kgtool.baselines import BASELINES
from kgtool.blend import Blend, fit_blend
from kgtool.candidates import parse_candidates
from kgtool.compare import compare as compare_ranks
from kgtool.errors import DataError, RunError
from kgtool.evaluator import evaluate_model
from kgtool.explain import Explanation, explain_triple, name_path
from kgtool.export import export_embeddings
from kgtool.loaders import load_dataset
from kgtool.loaders.faults import nearest, quoted
from kgtool.metrics import HITS
from kgtool.model import PathModel
from kgtool.ops import keep_large_blocks
from kgtool.rank_files import read_matched
from kgtool.ranking import Candidates, ScoresTails
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
    candidates: str = "all",
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
        candidates: what answers are ranked among: `all` entities; `sampled:500`, so many drawn at
            random for each; `types`, those that train has on that side of the relation. It then
            stands in the files' names, as in `metrics.sampled-500.<split>.json`.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run = _opened(run)
    dataset = _loaded(run, data)
    among = parse_candidates(candidates, dataset)
    model: ScoresTails = run.model(dataset).scorer()
    about: dict[str, Any] = {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    others = [_opened(other) for other in beside]
    for other in others:
        model = _blend(model, other, dataset, progress)
        tried = {f"{weight:g}": mrr for weight, mrr in model.mrr.items()}
        told = {"run": str(other.path), "weight": model.weight, "valid_mrr": tried}
        about.setdefault("with", []).append(told)
    results = Results(
        evaluate_model(model, dataset, split, None, progress, hits, among),
        dataset,
        about | {"versions": versions()},
        *(
            _result_file(run, kind, split, dataset, others, among)
            for kind in ("metrics.json", "breakdown.tsv", "ranks.tsv")
        ),
    )
    results.write()
    return results


def evaluate_baselines(
    data: KGDataset | str | Path,
    split: str = "test",
    out: str | Path | None = None,
    progress: bool = False,
    hits: Sequence[int] = HITS,
    candidates: str = "all",
) -> dict[str, Results]:
    """Link prediction metrics of what is trivial, to see what a model's are worth.

    Args:
        data: the data set or its place.
        split: `"train"`, `"valid"` or `"test"`.
        out: a folder to write a folder to for each baseline, with the files that `evaluate` leaves
            in a run's, so that `compare` takes them beside a run.
        progress: show a progress bar.
        hits: the k of Hits@k.
        candidates: as of `evaluate`.

    Returns:
        Name → results, of `kgtool.baselines.BASELINES`.

    Raises:
        DataError: when the data cannot be used.
        KGToolError: when a file cannot be written.
    """
    keep_large_blocks()
    dataset = data if isinstance(data, KGDataset) else load_dataset(data)
    about = {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    among = parse_candidates(candidates, dataset)
    part = f"{among.name}.{split}" if among else split
    found = {}
    for name, baseline in BASELINES.items():
        place = Path(out or "baselines") / name
        kinds = (f"metrics.{part}.json", f"breakdown.{part}.tsv", f"ranks.{part}.tsv")
        found[name] = Results(
            evaluate_model(baseline(dataset), dataset, split, None, progress, hits, among),
            dataset,
            {"baseline": name, **about, "versions": versions()},
            *(place / kind for kind in kinds),
        )
        if out is not None:
            found[name].write()
    return found


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
    run: Run,
    kind: str,
    split: str,
    dataset: KGDataset,
    beside: Sequence[Run],
    among: Candidates | None,
) -> Path:
    """A file of a split's results: it names other data than the run's, further runs, candidates."""
    own = dataset.fingerprint == run.info["fingerprint"]
    name, ending = kind.split(".")
    names = [name, *([] if own else [dataset.name])]
    names += [f"with-{other.path.name}" for other in beside]
    names += [among.name] if among else []
    return run.path / ".".join([*names, split, ending])


def compare(
    runs: Sequence[Run | str | Path], split: str = "test", hits: Sequence[int] = HITS
) -> pd.DataFrame:
    """Metrics of several runs side by side, with what a paired bootstrap says of each difference.

    Args:
        runs: two or more, all asked the same queries: runs or their folders, which `evaluate` has
            left the ranks of the split in, or files of ranks, ours or another tool's.
        split: whose ranks of a folder.
        hits: the k of Hits@k.

    Returns:
        The table of `kgtool.compare`; the runs' names are those of `compared_names`.

    Raises:
        DataError: when ranks are missing, or cannot be compared.
    """
    places = [Path(run.path if isinstance(run, Run) else run) for run in runs]
    names = compared_names(places)
    queries, groups = read_matched([ranks_file(place, split) for place in places])
    return compare_ranks(dict(zip(names, queries, strict=True)), groups, hits)


def ranks_file(place: Path, split: str) -> Path:
    """The file of a split's ranks in a folder, or the file that `place` is.

    Raises:
        DataError: when the folder has none.
    """
    if not place.is_dir():
        return place
    file = place / f"ranks.{split}.tsv"
    if not file.is_file():
        raise DataError(
            f"{place} holds no ranks.{split}.tsv. Remedy: kgtool evaluate {place} --split {split}"
        )
    return file


def compared_names(places: Sequence[Path]) -> list[str]:
    """The name of each folder or file, or the whole place where two share one.

    Raises:
        DataError: for fewer than two places, or one that comes twice.
    """
    if len(places) < 2:
        raise DataError("one run alone cannot be compared. Remedy: name two or more.")
    for place in places:
        if places.count(place) > 1:
            raise DataError(f"{place} is named twice. Remedy: name each run once.")
    names = [place.name if place.is_dir() else place.stem for place in places]
    return names if len(set(names)) == len(names) else [str(place) for place in places]


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
