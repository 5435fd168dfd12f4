"""A run is a folder: configuration, vocabulary, weights, history, log and metrics.

config.toml            the resolved configuration
entities.tsv           id, label
relations.tsv          id, label
best.safetensors       weights of the best validation
last.safetensors       weights, optimiser and generators where training stands, for --resume
previous.safetensors   the checkpoint before the last, in case the last is damaged
owners.safetensors     of a run on several processes: the process that owns each entity's row
history.tsv            a row per validation
train.log              log of the training
run.json               data path and fingerprint, versions, sizes; the run it was made from, if any
data/                  of a run made by `kgtool extend`: its triples
metrics.<split>.json   results of evaluate
probability.<assumption>.<weights>.safetensors and others: fits of predict, for these weights
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgtool.config import Config, load_config
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.data.loaders import load_dataset
from kgtool.distributed.sharding import Shards
from kgtool.errors import DataError, RunError
from kgtool.graph.partition import shards_of
from kgtool.models.factory import load_model
from kgtool.models.model import Model
from kgtool.models.scorers import ModelScorer, Scorer
from kgtool.storage.checkpoint import load_tensors
from kgtool.storage.files import (
    atomic_write,
    is_leftover,
    open_regular,
    read_json,
    read_regular,
    sha256_of,
    write_json,
)
from kgtool.storage.memmap import MappedTables
from kgtool.storage.tables import load_table

BEST = "best.safetensors"
OWNERS = "owners.safetensors"
LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"
HISTORY = "history.tsv"
LOG = "train.log"
# The first files of a run, in the order of writing: a folder with the last one can be opened.
BEGINNING = ("run.json", "entities.tsv", "relations.tsv", "config.toml")
# Keys of run.json with the types of their values, and the columns of the history.
_INFO: dict[str, Any] = {"fingerprint": "", "versions": {}, "start": {}, "extended": {}}
_HISTORY = ("epoch", "step", "seconds", "loss", "learning_rate", "valid_mrr")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute the numbers."""
    names = ("kgtool", "torch", "dgl", "numpy", "numba", "pandas")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}


@dataclass(frozen=True, eq=False)
class Run:
    """An opened run folder.

    Attributes:
        path: the folder.
        config: the resolved configuration of the run.
        vocabulary: the labels by id, as used by the weights.
    """

    path: Path
    config: Config
    vocabulary: Vocabulary

    @classmethod
    def create(
        cls, path: Path, config: Config, dataset: KGDataset, origin: Mapping[str, Any] | None = None
    ) -> Run:
        """Begin a run in a new or empty folder, or in one where `create` was interrupted.

        Args:
            path: the folder.
            config: the configuration.
            dataset: the triples.
            origin: further entries of `run.json`, for a run made from another run.

        Raises:
            RunError: if the folder is not empty.
            DataError: if a label has a tab or line feed, which a TSV file cannot hold.
        """
        if not is_hardly_begun(path):
            refuse_taken(path, "choose another --out, remove it, or continue with --resume")
        vocabulary = dataset.vocabulary
        for label in (*vocabulary.entities, *vocabulary.relations):
            if "\t" in label or "\n" in label:
                raise DataError(f"the label {label!r} has a tab or line feed. Remedy: change it.")
        info, entities, relations, settings = (path / name for name in BEGINNING)
        write_json(
            info,
            {
                "data": str(dataset.path.resolve()) if dataset.path else None,
                "fingerprint": dataset.fingerprint,
                "entities": dataset.num_entities,
                "relations": dataset.num_relations,
                "versions": versions(),
                **(origin or {}),
            },
        )
        for place, labels in ((entities, vocabulary.entities), (relations, vocabulary.relations)):
            with atomic_write(place) as file:
                file.write("id\tlabel\n")
                file.writelines(f"{i}\t{label}\n" for i, label in enumerate(labels))
        with atomic_write(settings) as file:
            file.write(config.to_toml())
        return cls(path, config, vocabulary)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: if it is not a run, or its files are damaged.
        """
        path = Path(path)
        if not (path / "config.toml").is_file():
            raise RunError(f"{path} is not a run: config.toml is missing. Remedy: check the name.")
        labels = (_read_labels(path / "entities.tsv"), _read_labels(path / "relations.tsv"))
        return cls(path, load_config(path / "config.toml"), Vocabulary(*labels))

    def read_info(self) -> dict[str, Any]:
        """`run.json`: data path, fingerprint, sizes and versions.

        Raises:
            RunError: when the file is missing or damaged.
        """
        info: dict[str, Any] = read_json(self.path / "run.json")
        known = isinstance(info, dict) and all(
            isinstance(info.get(key, default), type(default)) for key, default in _INFO.items()
        )
        place = info.get("data") if known else None
        if not known or "fingerprint" not in info or not isinstance(place, str | None):
            raise RunError(f"{self.path / 'run.json'}: invalid content. Remedy: restore the file.")
        return info

    def origin(self) -> dict[str, str]:
        """The entries of `run.json` for a run made from this one: path and data fingerprint."""
        return {"run": str(self.path.resolve()), "fingerprint": self.read_info()["fingerprint"]}

    def weights_digest(self) -> str:
        """The digest of the best weights; it is in the names of files that depend on them.

        Raises:
            RunError: if there are no weights.
        """
        if not (self.path / BEST).exists():
            raise RunError(f"{self.path / BEST}: no weights. Remedy: train first.")
        with open_regular(self.path / BEST) as file:
            return sha256_of(file)[:12]

    def written(self, name: str) -> Path:
        """The path of a file to write into the folder.

        Raises:
            RunError: if the path is a link that leads out of the folder: a run folder from someone
                else must not overwrite other files.
        """
        path = self.path / name
        inside = os.path.realpath(self.path)
        if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
            raise RunError(
                f"{path} is a link that leads out of the run's folder and is not written. "
                "Remedy: remove the link."
            )
        return path

    def history(self) -> list[dict[str, float]]:
        """The rows of `history.tsv`, one per validation.

        Raises:
            RunError: if the file is missing, or a cell is not a number.
        """
        path = self.path / HISTORY
        try:
            frame = load_table(path)
        except DataError as error:
            raise RunError(f"{path}: damaged history ({error})") from error
        if missing := [name for name in _HISTORY if name not in frame]:
            raise RunError(f"{path}: no column {', '.join(missing)}. Remedy: restore the file.")
        frame = frame.apply(pd.to_numeric, errors="coerce")
        # Epoch 0 has no loss.
        known = np.isfinite(frame.astype(float)) | (frame.columns == "loss")
        if not known.all(axis=None):
            line = int((~known).any(axis=1).argmax()) + 2
            raise RunError(f"{path}, line {line}: not a number. Remedy: restore the file.")
        rows: list[dict[str, float]] = frame.to_dict("records")
        return rows

    def dataset(self, data: str | Path | None = None) -> KGDataset:
        """The data set, with the run's ids.

        Args:
            data: the path; by default the path recorded by the run. An inductive model accepts
                another graph with the same relations and other entities.

        Raises:
            RunError: if the run records no path, or the recorded path does not exist.
            DataError: if the data set cannot be loaded, or has labels that the run does not have.
        """
        place = data if data is not None else self.read_info().get("data")
        if place is None:
            raise RunError(f"{self.path} records no data path. Remedy: pass --data PATH.")
        if data is None:
            # A relative path is inside the run folder, which may have been moved.
            if ".." in Path(place).parts or "\0" in str(place):
                raise RunError(
                    f"{self.path / 'run.json'}: the data's path {place!r:.100} leads out of the "
                    "folder. Remedy: pass --data PATH."
                )
            place = self.path / place
            if not os.path.exists(place):  # noqa: PTH110  # False too for a name too long
                raise RunError(
                    f"the run's data {place} does not exist any more. Remedy: pass --data PATH."
                )
        if data is not None and self.config.inductive:
            return load_dataset(place, relations=self.vocabulary.relations)
        return load_dataset(place, vocabulary=self.vocabulary)

    def model(self, dataset: KGDataset, shards: Shards | None = None) -> Model:
        """The model with the weights of the best validation, on the train graph.

        Args:
            dataset: the data.
            shards: the entities that this process owns; see `kgtool.models.factory.load_model`.

        Raises:
            RunError: if the weights are missing, damaged or do not fit.
        """
        path = self.path / BEST
        return load_model(self.config, dataset, load_tensors(path)[0], path, shards)

    def scorer(self, dataset: KGDataset) -> ModelScorer:
        """The scorer of `model`."""
        model = self.model(dataset)
        with MappedTables(self.path):
            return model.scorer()

    def distributed_scorer(self, dataset: KGDataset) -> Scorer:
        """As `scorer`, for processes that score together; they must call it together.

        With a model that samples negatives, each holds and scores some entities, as in training.
        """
        owners, drawing = self.path / OWNERS, self.config.samples_negatives
        model = self.model(dataset, shards_of(dataset, owners, save=False) if drawing else None)
        with MappedTables(self.path):
            return model.distributed_scorer()


def reopen(out: Path, config: Config, dataset: KGDataset, origin: Mapping[str, Any]) -> Run:
    """Open a run to continue its training.

    Raises:
        RunError: if it was begun with another configuration, other data or another start.
    """
    run = Run.open(out)
    recorded = run.read_info()
    if "extended" in recorded:
        raise RunError(
            f"{out} was made by extend and has no training to continue. Remedy: train with "
            f"--init-from {out} into another folder."
        )
    recorded_start, start = recorded.get("start"), origin.get("start")
    # With a checkpoint, --init-from is not needed again.
    if start != recorded_start and (start or not has_checkpoint(out)):
        how = f"from {recorded_start['run']}" if recorded_start else "at random"
        raise RunError(f"{out} was begun {how}. Remedy: resume with the same --init-from.")
    # The path of the data may change; its fingerprint may not.
    if run.config.model_copy(update={"data": config.data}) != config:
        raise RunError(
            f"{out} was begun with another configuration. Remedy: resume with its own "
            f"{out / 'config.toml'}, or train into another folder."
        )
    if recorded["fingerprint"] != dataset.fingerprint:
        raise RunError(f"{out} was begun on other data. Remedy: resume with the same files.")
    for name in (BEST, LAST, PREVIOUS, OWNERS, HISTORY, LOG):
        run.written(name)
    return run


def has_checkpoint(out: Path) -> bool:
    """Whether the run has a checkpoint to continue from."""
    return (out / LAST).exists() or (out / PREVIOUS).exists()


def refuse_taken(path: Path, remedy: str) -> None:
    """Raise a RunError if the path exists and is not an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} exists already. Remedy: {remedy}.")


def is_hardly_begun(path: Path) -> bool:
    """Whether a folder is empty or has only the files of an interrupted `Run.create`."""
    if not path.is_dir():
        return False
    names = {child.name for child in path.iterdir() if not is_leftover(child.name, BEGINNING)}
    if names != set(BEGINNING[: len(names)]) or len(names) == len(BEGINNING):
        return False
    if not names:
        return True
    info = read_json(path / BEGINNING[0])
    return isinstance(info, dict) and "fingerprint" in info


def _read_labels(path: Path) -> tuple[str, ...]:
    labels: list[str] = []
    try:
        data = io.BytesIO(read_regular(path))
        with io.TextIOWrapper(data, encoding="utf-8", newline="\n") as lines:
            sound = lines.readline() == "id\tlabel\n"
            for line in lines:
                number, label = line.split("\t")
                sound &= int(number) == len(labels) and label.endswith("\n")
                labels.append(label[:-1])
    except ValueError as error:
        raise RunError(
            f"{path}: damaged vocabulary ({error}). Remedy: restore the file."
        ) from error
    if not sound:
        raise RunError(f"{path}: the ids do not count from 0. Remedy: restore the file.")
    return tuple(labels)
