"""Runs and data as callers name them, and where results go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kgtool.data.dataset import KGDataset
from kgtool.errors import RunError
from kgtool.evaluation.ranking import Candidates
from kgtool.models.scorers import PathScorer, Scorer
from kgtool.runs.run import Run, versions


def opened(run: Run | str | Path) -> Run:
    """A run, or the run of a folder."""
    return run if isinstance(run, Run) else Run.open(run)


def loaded(run: Run, data: KGDataset | str | Path | None) -> KGDataset:
    """A data set, or the one at a place; by default where it was when the run began."""
    return data if isinstance(data, KGDataset) else run.dataset(data)


def fitting(beside: Run, dataset: KGDataset) -> Run:
    """A run that is asked beside another: it must know the same labels by the same ids."""
    own, vocabulary = beside.vocabulary, dataset.vocabulary
    same_entities = beside.config.inductive or own.entities == vocabulary.entities
    if own.relations != vocabulary.relations or not same_entities:
        raise RunError(
            f"{beside.path} has other labels, or other ids for them. Remedy: train it on the same "
            "files."
        )
    return beside


def scorers(run: Run, beside: Sequence[Run], dataset: KGDataset) -> list[Scorer | PathScorer]:
    """What answers queries of a run and of those asked beside it."""
    runs = [run, *(fitting(other, dataset) for other in beside)]
    return [each.scorer(dataset) for each in runs]


def about_data(dataset: KGDataset) -> dict[str, Any]:
    """What files of results say of what made them."""
    return {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }


def result_file(
    run: Run,
    kind: str,
    split: str,
    dataset: KGDataset,
    beside: Sequence[Run] = (),
    among: Candidates | None = None,
) -> Path:
    """A file of a split's results: it names other data than the run's, further runs, candidates."""
    own = dataset.fingerprint == run.info["fingerprint"]
    name, ending = kind.rsplit(".", 1)
    names = [name, *([] if own else [dataset.name])]
    names += [f"with-{other.path.name}" for other in beside]
    names += [among.name] if among else []
    return run.written(".".join([*names, split, ending]))
