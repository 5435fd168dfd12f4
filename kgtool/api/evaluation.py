"""Rank by runs and baselines, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kgtool.api.runs import about_data, fitting, loaded, opened, result_file
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders import load_dataset
from kgtool.distributed import process_group
from kgtool.errors import DataError
from kgtool.evaluation.analysis.rank_table import read_matched
from kgtool.evaluation.analysis.results import Results
from kgtool.evaluation.analysis.significance import compare as compare_ranks
from kgtool.evaluation.baselines import BASELINES
from kgtool.evaluation.candidates import parse_candidates
from kgtool.evaluation.ensemble import Ensemble, fit_ensemble
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.evaluation.metrics import HITS
from kgtool.evaluation.ranking import ScoresTails
from kgtool.ops import keep_large_blocks
from kgtool.runs.run import Run


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
            by the weight that ranks valid best; see `kgtool.evaluation.ensemble`. Their folders
            then stand in the files' names, as in `metrics.with-<folder>.<split>.json`.
        hits: the k of Hits@k.
        candidates: what answers are ranked among: `all` entities; `sampled:500`, so many drawn at
            random for each; `types`, those that train has on that side of the relation;
            `types:FILE`, those of its types by a file of `id⇥type` lines too. It then
            stands in the files' names, as in `metrics.sampled-500.<split>.json`.

    Raises:
        RunError, DataError: when a run or the data cannot be used.
        ScoreError: when a model gives a score that is not finite.
    """
    keep_large_blocks()
    run = opened(run)
    dataset = loaded(run, data)
    among = parse_candidates(candidates, dataset)
    # Of one run alone, processes that work together may hold a part of its entities each.
    model: ScoresTails = run.scorer(dataset) if beside else run.spread_scorer(dataset)
    about = about_data(dataset)
    others = [opened(other) for other in beside]
    for other in others:
        model = _ensemble(model, other, dataset, progress)
        tried = {f"{weight:g}": mrr for weight, mrr in model.mrr.items()}
        told = {"run": str(other.path), "weight": model.weight, "valid_mrr": tried}
        about.setdefault("with", []).append(told)
    results = Results(
        evaluate_model(model, dataset, split, None, progress, hits, among),
        dataset,
        about,
        *(
            result_file(run, kind, split, dataset, others, among)
            for kind in ("metrics.json", "breakdown.tsv", "ranks.tsv")
        ),
    )
    if process_group.rank() == 0:
        results.write()
    return results


def _ensemble(model: ScoresTails, beside: Run, dataset: KGDataset, progress: bool) -> Ensemble:
    if not len(dataset.valid):
        raise DataError("the data hold no valid triples to choose the weight of another run by")
    second = fitting(beside, dataset).scorer(dataset)
    return fit_ensemble(model, second, dataset, progress)


def evaluate_baselines(
    data: KGDataset | str | Path,
    split: str = "test",
    out: str | Path | None = None,
    progress: bool = False,
    hits: Sequence[int] = HITS,
    candidates: str = "all",
) -> dict[str, Results]:
    """Link prediction metrics of what is trivial, to see what a model's are worth.

    The quickest come first. Ctrl-C ends it early: the answer is those that are done by then.

    Args:
        data: the data set or its place.
        split: `"train"`, `"valid"` or `"test"`.
        out: a folder to write a folder to for each baseline, with the files that `evaluate` leaves
            in a run's, so that `compare` takes them beside a run.
        progress: show a progress bar.
        hits: the k of Hits@k.
        candidates: as of `evaluate`.

    Returns:
        Name → results, of `kgtool.evaluation.baselines.BASELINES`.

    Raises:
        DataError: when the data cannot be used.
        KGToolError: when a file cannot be written.
    """
    keep_large_blocks()
    dataset = data if isinstance(data, KGDataset) else load_dataset(data)
    about = about_data(dataset)
    among = parse_candidates(candidates, dataset)
    part = f"{among.name}.{split}" if among else split
    found: dict[str, Results] = {}
    for name, baseline in BASELINES.items():
        place = Path(out or "baselines") / name
        kinds = (f"metrics.{part}.json", f"breakdown.{part}.tsv", f"ranks.{part}.tsv")
        try:
            ranked = evaluate_model(baseline(dataset), dataset, split, None, progress, hits, among)
        except KeyboardInterrupt:
            if not found:
                raise
            break
        found[name] = Results(
            ranked,
            dataset,
            {"baseline": name, **about},
            *(place / kind for kind in kinds),
        )
        if out is not None and process_group.rank() == 0:
            found[name].write()
    return found


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
        The table of `kgtool.evaluation.analysis.significance`; the runs' names are those of
        `compared_names`.

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
        DataError: when the folder has none, or there is neither.
    """
    if not place.exists():
        raise DataError(f"{place}: no such run or file. Remedy: check the name.")
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
