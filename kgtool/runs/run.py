"""A run is a folder: configuration, vocabulary, weights, history, log and metrics.

config.toml            the resolved configuration
entities.tsv           id, label
relations.tsv          id, label
best.safetensors       weights of the best validation
last.safetensors       weights, optimiser and generators where training stands, for --resume
previous.safetensors   those of the checkpoint before, should the last be damaged
owners.safetensors     of a run spread over processes: which of them holds which entity's row
history.tsv            a row a validation
train.log              what happened when
run.json               data path and fingerprint, versions, sizes; the run it came from, if from one
data/                  of a run made by `kgtool extend`: its triples
metrics.<split>.json   what evaluate found
probability.<weights>.safetensors and the like: what predict fitted, for these weights
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
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
from kgtool.models.model import KGModel, PathModel, scorer_of
from kgtool.models.scorers import PathScorer, Scorer, SpreadScorer
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
# What a run begins with, in the order it is written: a folder that has the last one can be opened.
BEGINNING = ("run.json", "entities.tsv", "relations.tsv", "config.toml")
# What run.json may say, by key, each like the value here; and what a row of the history says.
_INFO: dict[str, Any] = {"fingerprint": "", "versions": {}, "start": {}, "extended": {}}
_HISTORY = ("epoch", "step", "seconds", "loss", "learning_rate", "valid_mrr")


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    names = ("kgtool", "torch", "dgl", "numpy", "numba", "pandas")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}


@dataclass(frozen=True, eq=False)
class Run:
    """An opened run folder.

    Attributes:
        path: the folder.
        config: as resolved when the run began.
        vocabulary: the labels by id that the weights belong to.
    """

    path: Path
    config: Config
    vocabulary: Vocabulary

    @classmethod
    def create(
        cls, path: Path, config: Config, dataset: KGDataset, origin: Mapping[str, Any] | None = None
    ) -> Run:
        """Begin a run, in a new folder, an empty one, or one where that was begun and killed.

        Args:
            path: the folder.
            config: what to train and how.
            dataset: the triples.
            origin: what `run.json` says beside, of a run that came from another.

        Raises:
            RunError: when the folder holds something already.
            DataError: when a label holds a tab or line feed, which no file of triples can.
        """
        if not is_hardly_begun(path):
            refuse_taken(path, "choose another --out, remove it, or go on with --resume")
        vocabulary = dataset.vocabulary
        for label in (*vocabulary.entities, *vocabulary.relations):
            if "\t" in label or "\n" in label:
                raise DataError(f"the label {label!r} holds a tab or line feed. Remedy: rename it.")
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
            RunError: when it is no run, or its files are damaged.
        """
        path = Path(path)
        if not (path / "config.toml").is_file():
            raise RunError(f"{path} is no run: it has no config.toml. Remedy: check the name.")
        labels = (_read_labels(path / "entities.tsv"), _read_labels(path / "relations.tsv"))
        return cls(path, load_config(path / "config.toml"), Vocabulary(*labels))

    @property
    def info(self) -> dict[str, Any]:
        """`run.json`: data path, fingerprint, sizes and versions."""
        info: dict[str, Any] = read_json(self.path / "run.json")
        known = isinstance(info, dict) and all(
            isinstance(info.get(key, default), type(default)) for key, default in _INFO.items()
        )
        place = info.get("data") if known else None
        if not known or "fingerprint" not in info or not isinstance(place, str | None):
            raise RunError(f"{self.path / 'run.json'}: not a run's. Remedy: restore the file.")
        return info

    @property
    def origin(self) -> dict[str, str]:
        """What a run that comes from this one says of it: where it is, and its data's print."""
        return {"run": str(self.path.resolve()), "fingerprint": self.info["fingerprint"]}

    @cached_property
    def weights_digest(self) -> str:
        """Of the best weights: what is made with others has another one.

        Raises:
            RunError: when there are none.
        """
        if not (self.path / BEST).exists():
            raise RunError(f"{self.path / BEST}: no weights. Remedy: train first.")
        with open_regular(self.path / BEST) as file:
            return sha256_of(file)[:12]

    def written(self, name: str) -> Path:
        """The path of a file to write into the folder.

        Raises:
            RunError: when a link there leads out of the folder, which may be a stranger's: what the
                link points to is not the run's to write.
        """
        path = self.path / name
        inside = os.path.realpath(self.path)
        if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
            raise RunError(
                f"{path} is a link that leads out of the run's folder; nothing is written through "
                "it. Remedy: remove the link."
            )
        return path

    def history(self) -> list[dict[str, float]]:
        """The rows of `history.tsv`, one a validation.

        Raises:
            RunError: when it is missing, or a cell of it is no number.
        """
        path = self.path / HISTORY
        try:
            frame = load_table(path)
        except DataError as error:
            raise RunError(f"{path}: damaged history ({error})") from error
        if missing := [name for name in _HISTORY if name not in frame]:
            raise RunError(f"{path}: no column {', '.join(missing)}. Remedy: restore the file.")
        frame = frame.apply(pd.to_numeric, errors="coerce")
        # Of epoch 0 there is no loss.
        known = np.isfinite(frame.astype(float)) | (frame.columns == "loss")
        if not known.all(axis=None):
            line = int((~known).any(axis=1).argmax()) + 2
            raise RunError(f"{path}, line {line}: no number. Remedy: restore the file.")
        rows: list[dict[str, float]] = frame.to_dict("records")
        return rows

    def dataset(self, data: str | Path | None = None) -> KGDataset:
        """The data, under the run's ids.

        Args:
            data: where it is; by default where it was when the run began. A model that holds
                nothing of entities takes another graph, of the same relations, with its entities.

        Raises:
            RunError: when no place is known or the recorded one is gone.
            DataError: when it cannot be loaded or holds labels that the run does not know.
        """
        place = data if data is not None else self.info.get("data")
        if place is None:
            raise RunError(f"{self.path} records no data path. Remedy: pass --data PATH.")
        if data is None:
            # A path that is not absolute lies inside the run, wherever that has been moved.
            if ".." in Path(place).parts or "\0" in str(place):
                raise RunError(
                    f"{self.path / 'run.json'}: the data's path {place!r:.100} leads out of the "
                    "folder. Remedy: pass --data PATH."
                )
            place = self.path / place
            if not os.path.exists(place):  # noqa: PTH110  # False too for a name too long
                raise RunError(f"the run's data, {place}, is gone. Remedy: pass --data PATH.")
        if data is not None and self.config.inductive:
            return load_dataset(place, relations=self.vocabulary.relations)
        return load_dataset(place, vocabulary=self.vocabulary)

    def model(self, dataset: KGDataset, shards: Shards | None = None) -> KGModel | PathModel:
        """The model with the weights of the best validation, over the data's train graph.

        Args:
            dataset: the data.
            shards: the part of it that this process of several is to hold, see `build.load_model`.

        Raises:
            RunError: when the weights are missing, damaged or do not fit.
        """
        path = self.path / BEST
        return load_model(self.config, dataset, load_tensors(path)[0], path, shards)

    def scorer(self, dataset: KGDataset) -> Scorer | PathScorer:
        """What answers queries by `model`."""
        model = self.model(dataset)
        with MappedTables(self.path):
            return model.scorer()

    def spread_scorer(self, dataset: KGDataset) -> Scorer | SpreadScorer | PathScorer:
        """As `scorer`, of processes that work together, and ask it together.

        Of a model that draws its entities, each holds and scores a part of these, as in training.
        """
        owners, drawing = self.path / OWNERS, self.config.samples_negatives
        model = self.model(dataset, shards_of(dataset, owners, keep=False) if drawing else None)
        with MappedTables(self.path):
            return scorer_of(model)


def reopen(out: Path, config: Config, dataset: KGDataset, origin: Mapping[str, Any]) -> Run:
    """Open a run to go on with its training.

    Raises:
        RunError: when it was begun with another configuration, on other data, or from elsewhere.
    """
    run = Run.open(out)
    recorded = run.info
    if "extended" in recorded:
        raise RunError(
            f"{out} was made by extend, and holds no training to go on with. Remedy: train with "
            f"--start {out} into another folder."
        )
    begun_from, told = recorded.get("start"), origin.get("start")
    # Once there is a checkpoint, the start need not be told again.
    if told != begun_from and (told or not has_checkpoint(out)):
        how = f"from {begun_from['run']}" if begun_from else "at random"
        raise RunError(f"{out} was begun {how}. Remedy: resume with the same --start.")
    # The place of the data may change; its fingerprint may not.
    if run.config.model_copy(update={"data": config.data}) != config:
        raise RunError(
            f"{out} was begun with another configuration. Remedy: resume with its own, "
            f"{out / 'config.toml'}, or train into another folder."
        )
    if recorded["fingerprint"] != dataset.fingerprint:
        raise RunError(f"{out} was begun on other data. Remedy: resume with the same files.")
    for name in (BEST, LAST, PREVIOUS, OWNERS, HISTORY, LOG):
        run.written(name)
    return run


def has_checkpoint(out: Path) -> bool:
    """Whether there is training to go on with."""
    return (out / LAST).exists() or (out / PREVIOUS).exists()


def refuse_taken(path: Path, remedy: str) -> None:
    """Raise a RunError when there is something where a new run is to be."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} exists already. Remedy: {remedy}.")


def is_hardly_begun(path: Path) -> bool:
    """Whether a folder holds what a killed `Run.create` left, maybe nothing, and nothing else."""
    if not path.is_dir():
        return False
    found = {child.name for child in path.iterdir() if not is_leftover(child.name, BEGINNING)}
    if found != set(BEGINNING[: len(found)]) or len(found) == len(BEGINNING):
        return False
    if not found:
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
        raise RunError(f"{path}: ids do not count from 0. Remedy: restore the file.")
    return tuple(labels)
