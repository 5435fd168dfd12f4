"""Open runs and data from what callers pass, and name the files of results."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kgtool.data.dataset import KGDataset, check_not_empty
from kgtool.data.loaders import load_dataset
from kgtool.data.loaders.column_order import check_columns
from kgtool.data.registry.cache import resolve
from kgtool.errors import KGToolWarning, RunError, path_of
from kgtool.evaluation.ranking import Candidates
from kgtool.inference.predictor import Predictor
from kgtool.models.model import Model
from kgtool.models.scorers import ModelScorer
from kgtool.runs.pretrained import DEFAULT, pretrained_run
from kgtool.runs.run import BEGINNING, Run, versions

AnyRun = Run | Predictor | str | Path  # a run, a predictor of it, or its folder
AnyData = KGDataset | str | Path  # a data set or its path


def opened(run: AnyRun) -> Run:
    """A run: itself, that of a predictor, that of a folder, or pre-trained weights on data."""
    found = unwrapped(run)
    if isinstance(found, Run):
        return found
    return pretrained(found) if is_data(found) else Run.open(found)


def is_data(run: str | Path) -> bool:
    """Whether a caller passes data in the place of a run: a file, a folder, a fetched data set."""
    path = path_of(run, "run", RunError, "the folder of a run")
    if path.is_dir():
        return not any((path / name).exists() for name in BEGINNING) and any(path.iterdir())
    return resolve(run).exists()


def pretrained(data: AnyData, out: str | Path | None = None, *, name: str = DEFAULT) -> Run:
    """A run of weights that are shipped with kgtool, on a graph that they never saw.

    Nothing is trained. The run answers queries, explains, evaluates, completes and serves, as any
    run does. A prediction reads the triples of all splits.

    Args:
        data: the data set or its path.
        out: the folder of the run. By default one in the user's cache, which a later call for the
            same graph finds.
        name: the weights.

    Raises:
        DataError: when the data cannot be used.
        RunError: when there are no such weights, or `out` is not empty.

    Warns:
        KGToolWarning: if the first line of a file was read as a triple and may be a header.
    """
    dataset = data if isinstance(data, KGDataset) else load_dataset(data)
    check_columns(dataset)
    if doubt := dataset.loading.get("doubt"):
        warnings.warn(KGToolWarning(f"{doubt}."), stacklevel=3)
    return pretrained_run(dataset, None if out is None else Path(out), name)


def unwrapped(run: AnyRun) -> Run | str | Path:
    """A run or a path: itself, or the run of a predictor."""
    return run.run if isinstance(run, Predictor) else run


def with_data(run: AnyRun, data: AnyData | None, *splits: str) -> tuple[Run, KGDataset]:
    """A run, and its data with the ids of the run.

    Args:
        run: a run, its folder, or a predictor, which has its data.
        data: the data set or its path; by default that of the predictor, or the one that the run
            was trained on.
        splits: the splits that must have triples.

    Raises:
        RunError, DataError: when run or data cannot be used, or a split is empty.
    """
    if isinstance(run, Predictor):
        refuse_again(data=data)
        found, dataset = run.run, run.dataset
    else:
        place = unwrapped(run)
        if not isinstance(place, Run) and is_data(place):
            if data is not None:
                raise RunError(
                    f"{place} is data, which pre-trained weights answer on, and --data gives other "
                    f"data. Remedy: pass {data} in the place of the run."
                )
            dataset = load_dataset(place)
            found = pretrained(dataset)
            warnings.warn(
                f"{place}: answers by pre-trained weights, which were not trained on this graph.",
                KGToolWarning,
                stacklevel=3,
            )
        else:
            found = place if isinstance(place, Run) else Run.open(place)
            dataset = found.dataset(data)
    check_not_empty(dataset, splits)
    return found, dataset


def refuse_again(**given: object) -> None:
    """Refuse what `open_predictor` takes where a predictor is passed.

    Raises:
        RunError: when one is not None.
    """
    for name, value in given.items():
        if value is not None:
            raise RunError(
                f"{name} does not go with a predictor, which has its own. Remedy: pass {name} to "
                "kgtool.open_predictor, or pass the run."
            )


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


def require_embeddings(run: Run, scorer: ModelScorer) -> ModelScorer:
    """The scorer of a run, if it has embeddings of entities and relations.

    Raises:
        RunError: when it has none.
    """
    if not scorer.has_states:
        raise RunError(
            f"{run.path} has no embeddings: its scores come from paths alone. Remedy: train with "
            "the sections [one_path] and [all_paths], or with neither."
        )
    return scorer


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


def _fits(run: Run, dataset: KGDataset) -> bool:
    """Whether the labels that the weights belong to have the same ids in the data."""
    if run.config.conditional:
        return True
    own, vocabulary = run.vocabulary, dataset.vocabulary
    same_entities = run.config.inductive or own.entities == vocabulary.entities
    return own.relations == vocabulary.relations and same_entities
