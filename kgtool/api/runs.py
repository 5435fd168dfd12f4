"""Open runs and data from what callers pass, and name the files of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kgtool.data.dataset import KGDataset
from kgtool.errors import RunError
from kgtool.evaluation.ranking import Candidates
from kgtool.models.model import Model
from kgtool.models.scorers import ModelScorer
from kgtool.runs.run import Run, versions


def opened(run: Run | str | Path) -> Run:
    """A run, or the run of a folder."""
    return run if isinstance(run, Run) else Run.open(run)


def loaded(run: Run, data: KGDataset | str | Path | None) -> KGDataset:
    """A data set, or the one at a path; by default the path that the run was trained on.

    Raises:
        RunError: when a data set has other labels than the run, or other ids for them.
    """
    if not isinstance(data, KGDataset):
        return run.dataset(data)
    if not _fits(run, data):
        raise RunError(
            f"{data.name!r} has other labels than {run.path}, or other ids for them. Remedy: pass "
            "the path of its files, which are read with the ids of the run."
        )
    return data


def _fits(run: Run, dataset: KGDataset) -> bool:
    """Whether the labels that the weights belong to have the same ids in the data."""
    own, vocabulary = run.vocabulary, dataset.vocabulary
    same_entities = run.config.inductive or own.entities == vocabulary.entities
    return own.relations == vocabulary.relations and same_entities


def fitting(run: Run, dataset: KGDataset) -> Run:
    """A run of an ensemble: its labels must have the same ids as those of the data.

    Raises:
        RunError: when labels or ids differ.
    """
    if not _fits(run, dataset):
        raise RunError(
            f"{run.path} has other labels, or other ids for them. Remedy: train it on the same "
            "files."
        )
    return run


def scorers(run: Run, ensemble: Sequence[Run], dataset: KGDataset) -> list[ModelScorer]:
    """The scorers of a run and of the other runs of an ensemble."""
    runs = [run, *(fitting(other, dataset) for other in ensemble)]
    return [each.scorer(dataset) for each in runs]


def about_data(dataset: KGDataset) -> dict[str, Any]:
    """The data set and the versions of packages, for files of results."""
    return {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "versions": versions(),
    }


def result_file(
    run: Run,
    kind: str,
    split: str,
    dataset: KGDataset,
    ensemble: Sequence[Run] = (),
    *,
    among: Candidates | None = None,
) -> Path:
    """The file of a split's results. Its name has the data if not the run's, the ensemble's other
    runs, and the candidates if not all entities.
    """
    own = dataset.fingerprint == run.read_info()["fingerprint"]
    name, ending = kind.rsplit(".", 1)
    names = [name, *([] if own else [dataset.name])]
    names += [f"with-{other.path.name}" for other in ensemble]
    names += [among.name] if among else []
    return run.written(".".join([*names, split, ending]))


def walk_model(run: Run, dataset: KGDataset) -> tuple[Model, int]:
    """A model that was trained on walks, and the maximum length of these walks.

    Raises:
        RunError: when the run was not trained on walks.
    """
    settings = run.config.one_path
    if not (settings and settings.walk_ratio):
        raise RunError(
            f"{run.path} was not trained on walks. Remedy: train with a [one_path] section and, "
            "say, one_path.walk_ratio=0.5."
        )
    return run.model(dataset), settings.max_path_length
