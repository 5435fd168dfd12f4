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
tracking.json          of a tracked run: its id at each tracker (`kgtool.runs.tracking`)
events.out.tfevents.*  of a run tracked by TensorBoard: its curves
wandb/                 of a run tracked by Weights & Biases: its files
run.json               data path, fingerprints of data and labels, versions, machine, sizes; the run
                       it was made from, if any; the graphs of a pre-training, if it is one
triples.safetensors    of a run on data in memory: its triples
features.safetensors   of a model with features: the vectors of all labels, the run's entities first
data/                  of a run made by `kgtool extend`: its triples
metrics.<split>.json   metrics of link prediction (`kgtool evaluate`)
breakdown.<split>.tsv  the same by group
ranks.<split>.tsv      a row per query
relations.<split>.json, relations.<split>.tsv
                       relation prediction: metrics, a row per triple
triples.<split>.json, triples.<split>.tsv, calibration.<split>.tsv
                       triple classification: metrics, a row per triple, a row per bin
paths.<split>.json, paths.<split>.tsv
                       path queries; `paths.composed` where a one-path run answers step by step
walks.<split>.json     perplexity of walks
report.<split>.html, report.<split>.card.md
                       page and model card of `kgtool report`
probability.<assumption>.<method>.<weights>.safetensors
                       fit of the probabilities, for these weights
pairs.<assumption>.<method>.<weights>.safetensors
                       fit of the pairs that have any relation
relations.<method>.<weights>.safetensors
                       fit of relation prediction
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kgtool.config import Config, load_config
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.features import Features
from kgtool.data.loaders import Reading, load_dataset
from kgtool.data.loaders.encode import with_vocabulary
from kgtool.data.loaders.reading import reading_from
from kgtool.display import html
from kgtool.distributed.sharding import Shards
from kgtool.errors import ConfigError, DataError, KGToolWarning, RunError, path_of
from kgtool.graph.partition import shards_of
from kgtool.models.factory import load_model
from kgtool.models.model import Model
from kgtool.models.scorers import ModelScorer, Scorer
from kgtool.ops import machine_bytes, num_workers, standard_state
from kgtool.storage.checkpoint import Tensors, load_tensors, save_tensors
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
TRIPLES = "triples.safetensors"
PRETRAINED = "pretrained"  # the weights that come with kgtool, in the place of a run's folder
_WEIGHTS = "weights of "  # then the split: the name of weights in that file
FEATURES = "features.safetensors"
# The first files of a run, in the order of writing: a folder with the last one can be opened.
BEGINNING = ("run.json", "entities.tsv", "relations.tsv", "config.toml")
# Keys of run.json with the types of their values, and the columns of the history.
_INFO: dict[str, Any] = {
    "fingerprint": "", "labels": "", "versions": {}, "start": {}, "extended": {}, "loading": {},
    "features": "", "pretrained": "", "sources": [], "machine": "",
}  # fmt: skip
# The settings of training that say when it ends: a resumed run may have others.
MAY_CHANGE = ("epochs", "patience")
_HISTORY = ("epoch", "step", "seconds", "loss", "learning_rate", "valid_mrr")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute the numbers."""
    names = ("kgtool", "torch", "dgl", "numpy", "numba", "pandas")
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in names}


def machine() -> str:
    """The processor, threads, memory and GPU of this machine, as in `AMD EPYC, 2 threads, 8 GB`."""
    threads, memory = num_workers(), machine_bytes()
    parts = [_processor(), f"{threads} thread{'s' * (threads != 1)}"]
    parts += [] if memory is None else [f"{memory / 2**30:.0f} GB"]
    parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join(parts)


def _processor() -> str:
    """The name of the processor; its architecture if the system does not give a name."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


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

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self._model()}, {self._sizes()})"

    def _repr_html_(self) -> str:
        fields: dict[str, Any] = {"model": self._model(), "graph": self._sizes()}
        with suppress(RunError):
            fields["data"] = self.read_info().get("data") or f"in the folder, {TRIPLES}"
        with suppress(RunError):  # a run without a validation
            best = self.best_validation()
            fields["best valid MRR"] = f"{best['valid_mrr']:.4f} after epoch {best['epoch']:.0f}"
        return html(f"Run {self.path}", fields)

    def _model(self) -> str:
        kinds = {"one_path": "one path", "all_paths": "all paths"}
        parts = self.config.parts.items()
        return " and ".join(f"{kinds[name]}, dim {part.dim}" for name, part in parts)

    def _sizes(self) -> str:
        entities, relations = len(self.vocabulary.entities), len(self.vocabulary.relations)
        return f"{entities:,} entities, {relations:,} relations"

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
            resume = ", or continue with --resume" if (path / BEGINNING[-1]).is_file() else ""
            refuse_taken(path, f"choose another --out{resume}")
        vocabulary = dataset.vocabulary
        for label in (*vocabulary.entities, *vocabulary.relations):
            if "\t" in label or "\n" in label:
                raise DataError(f"the label {label!r} has a tab or line feed. Remedy: change it.")
        info, entities, relations, _ = (path / name for name in BEGINNING)
        write_json(
            info,
            {
                "data": str(dataset.path.resolve()) if dataset.path else None,
                "fingerprint": dataset.fingerprint,
                **({"loading": dict(dataset.loading)} if dataset.loading else {}),
                "labels": vocabulary.fingerprint,
                **features_info(config, dataset),
                "entities": dataset.num_entities,
                "relations": dataset.num_relations,
                "versions": versions(),
                "machine": machine(),
                **(origin or {}),
            },
        )
        for place, labels in ((entities, vocabulary.entities), (relations, vocabulary.relations)):
            with atomic_write(place) as file:
                file.write("id\tlabel\n")
                file.writelines(f"{i}\t{label}\n" for i, label in enumerate(labels))
        run = cls(path, config, vocabulary)
        run.save_config()
        run.hold(dataset)
        return run

    def save_config(self) -> None:
        """Write `config.toml`."""
        with atomic_write(self.written(BEGINNING[-1])) as file:
            file.write(self.config.to_toml())

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: if it is not a run, its files are damaged, or its labels are not those of the
                training.
        """
        path = path_of(path, "path", RunError, "the folder of a run")
        if not (path / "config.toml").is_file():
            remedy = "check the name"
            if (path / BEGINNING[0]).is_file() and is_hardly_begun(path):
                remedy = "begin the training again; it was stopped before its first step"
            raise RunError(f"{path} is not a run: config.toml is missing. Remedy: {remedy}.")
        labels = (_read_labels(path / "entities.tsv"), _read_labels(path / "relations.tsv"))
        run = cls(path, load_config(path / "config.toml"), Vocabulary(*labels))
        if (path / "run.json").is_file():  # else what reads it says so
            recorded = run.read_info().get("labels")  # runs before this version have none
            if recorded is not None and recorded != run.vocabulary.fingerprint:
                raise RunError(
                    f"{path}: entities.tsv or relations.tsv has other labels, or another order, "
                    "than at training; the weights belong to the old ones. Remedy: restore the "
                    "file."
                )
        return run

    def hold(self, dataset: KGDataset) -> None:
        """Write what the run needs later and nothing else holds: triples in memory, features."""
        file = self.written(TRIPLES)
        if dataset.path is None and self.read_info().get("data") is None and not file.exists():
            splits = {split: dataset.split(split) for split in SPLITS}
            splits |= {f"{_WEIGHTS}{split}": each for split, each in dataset.weights.items()}
            save_tensors(file, splits, {"name": dataset.name})
        vectors = self.written(FEATURES)
        if reads_features(self.config) and dataset.features and not vectors.exists():
            ordered = dataset.features.ordered(self.vocabulary.entities)
            save_tensors(
                vectors, ordered.tensors(),
                {"widths": list(ordered.widths), "features": dataset.features.fingerprint},
            )  # fmt: skip

    def features(self) -> Features:
        """The features that the model was trained with, and those of an extension.

        Raises:
            RunError: if the file is missing, damaged or of another run.
        """
        path = self.path / FEATURES
        tensors, state = load_tensors(path)
        try:
            found = Features.from_tensors(tensors, state["widths"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: invalid content. Remedy: restore the file.") from error
        if state.get("features") != self.read_info().get("features"):
            raise RunError(f"{path} belongs to another run. Remedy: restore the file.")
        return found

    def with_features(self, dataset: KGDataset) -> KGDataset:
        """A data set with the run's features and its own, if the model reads features.

        The features of the data set replace those of the run with the same label.

        Raises:
            RunError: as `features`.
            DataError: if the features of the data set have other widths.
        """
        if not reads_features(self.config):
            return dataset
        found = self.features()
        if dataset.features is not None:
            found = found.merged(dataset.features, f"the features of {dataset.name}")
        return replace(dataset, features=found)

    def _held(self) -> KGDataset | None:
        """The data that `hold` wrote, if it did.

        Raises:
            RunError, DataError: if the file is damaged.
        """
        if not (self.path / TRIPLES).is_file():
            return None
        tensors, state = load_tensors(self.path / TRIPLES)
        weights = {
            split: tensors.pop(f"{_WEIGHTS}{split}")
            for split in SPLITS
            if f"{_WEIGHTS}{split}" in tensors
        }
        if tensors.keys() != set(SPLITS) or not isinstance(state.get("name"), str):
            raise RunError(f"{self.path / TRIPLES}: invalid content. Remedy: restore the file.")
        return KGDataset(
            state["name"], None, self.vocabulary, *(tensors[split] for split in SPLITS),
            weights=weights,
        )  # fmt: skip

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
        """The entries of `run.json` for a run made from this one: path and data fingerprint.

        A run of pre-trained weights has their place in `--init-from` for a path.
        """
        info = self.read_info()
        place = PRETRAINED if "pretrained" in info else str(self.path.resolve())
        return {"run": place, "fingerprint": info["fingerprint"]}

    def weights_digest(self) -> str:
        """The digest of the file of `weights`, for the names of files that depend on them.

        Raises:
            RunError: if there are no weights.
        """
        with open_regular(self._weights_file()) as file:
            return sha256_of(file)[:12]

    def weights(self, whole: bool = False) -> tuple[Path, Tensors, dict[str, Any]]:
        """The file of the weights, the weights, and the state that is stored with them.

        They are the weights of the best validation. Before the first validation they are those of
        the last step that was saved, with a `KGToolWarning`. A combined model has those of its
        one-path part alone until its passes are validated.

        Args:
            whole: refuse the weights of the one-path part alone.

        Raises:
            RunError: if there are none, or they are damaged.
        """
        file, tensors, state = self._weights()
        if self.config.combined and not state.get("part"):
            if whole:
                raise RunError(
                    f"{self.path} has only its embeddings yet. Remedy: continue the training with "
                    "--resume until the paths are validated."
                )
            tensors = {n: t for n, t in tensors.items() if n.startswith("one_path.")}
        return file, tensors, state

    def _weights(self) -> tuple[Path, Tensors, dict[str, Any]]:
        file = self._weights_file()
        tensors, state = load_tensors(file)
        if file.name == BEST:
            return file, tensors, state
        if state.get("history"):
            raise RunError(
                f"{self.path / BEST}: no such checkpoint, though the run was validated. Remedy: "
                "restore the file, or run the training again with --resume: where the last weights "
                "are the best, it writes the file again."
            )
        if not state.get("step"):
            raise RunError(
                f"{self.path} was stopped before its first step, it has learned nothing. Remedy: "
                "continue the training with --resume."
            )
        warnings.warn(
            f"{self.path} has no validation yet: the weights are those of step {state['step']:,}, "
            "the last that was saved. To train on, run the training again with --resume.",
            KGToolWarning,
            stacklevel=2,
        )
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n[:6] == "model."}
        return file, weights, {"epoch": state.get("epoch", 0), "part": state.get("part", 0)}

    def _weights_file(self) -> Path:
        for name in (BEST, LAST, PREVIOUS):
            if (self.path / name).is_file():
                return self.path / name
        raise RunError(
            f"{self.path / BEST}: no such checkpoint; the run has no weights. Remedy: run the "
            "training again with --resume."
        )

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

    def history(self) -> list[dict[str, Any]]:
        """The rows of `history.tsv`, one per validation: numbers, and the name of a model's part.

        Raises:
            RunError: if the file is missing after a validation, or a cell is not a number.
        """
        path = self.path / HISTORY
        if not path.exists() and (not (self.path / BEST).exists() or self.shipped_weights()):
            return []
        try:
            frame = load_table(path)
        except DataError as error:
            raise RunError(f"{path}: damaged history ({error})") from error
        if missing := [name for name in _HISTORY if name not in frame]:
            raise RunError(f"{path}: no column {', '.join(missing)}. Remedy: restore the file.")
        named = {name: frame.pop(name) for name in ("part",) if name in frame}
        frame = frame.apply(pd.to_numeric, errors="coerce")
        # Epoch 0 has no loss.
        known = np.isfinite(frame.astype(float)) | (frame.columns == "loss")
        if not known.all(axis=None):
            line = int((~known).any(axis=1).argmax()) + 2
            raise RunError(f"{path}, line {line}: not a number. Remedy: restore the file.")
        rows: list[dict[str, Any]] = frame.assign(**named).to_dict("records")
        return rows

    def shipped_weights(self) -> str | None:
        """The name of the weights of a run that was never trained; None for a trained run.

        See `kgtool.runs.pretrained`.
        """
        with suppress(RunError):
            name: str | None = self.read_info().get("pretrained")
            return name
        return None

    def place(self) -> Path:
        """What a user passes as RUN: its folder, or the data on which shipped weights answer."""
        data = self.read_info().get("data") if self.shipped_weights() else None
        return Path(data) if data else self.path

    def best_validation(self) -> dict[str, Any]:
        """The row of `history` with the best MRR; of a combined run, of the part it has reached.

        Raises:
            RunError: as `history`, or if there is no validation.
        """
        rows = self.history()
        if not rows:
            raise RunError(f"{self.path} has no validation yet. Remedy: train further.")
        last = rows[-1].get("part")
        return max((r for r in rows if r.get("part") == last), key=lambda row: row["valid_mrr"])

    @standard_state()
    def dataset(self, data: KGDataset | str | Path | None = None) -> KGDataset:
        """The data set, with the run's ids.

        Args:
            data: a data set or its path; by default the path that the run records, whose files must
                not have changed since the training, or the triples in its folder. An inductive
                model accepts another graph with the same relations and other entities, a
                conditional model one with any relations.

        Raises:
            RunError: if the run records no path, the recorded path does not exist, or its files
                have changed since the training.
            DataError: if the data set cannot be loaded, or has labels that the run does not have.
        """
        if isinstance(data, KGDataset):
            own = self.vocabulary
            if self.config.conditional:
                return data
            if self._answers_by_paths(data.vocabulary):
                own = Vocabulary(data.vocabulary.entities, own.relations)
            return with_vocabulary(data, own)
        place = data if data is not None else self.read_info().get("data")
        if place is None:
            if held := self._held():
                return held
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
        if data is not None and self.config.conditional:
            return load_dataset(place)
        if data is not None and self.config.inductive:
            other = load_dataset(place, relations=self.vocabulary.relations)
            if self.config.combined and not self._answers_by_paths(other.vocabulary):
                return with_vocabulary(other, self.vocabulary)
            return other
        reading = self._reading(data)
        dataset = load_dataset(place, vocabulary=self.vocabulary, reading=reading)
        if data is None and dataset.fingerprint != self.read_info()["fingerprint"]:
            raise RunError(
                f"{place} has other triples or labels than when {self.path} was trained on it. "
                f"Remedy: restore the files, train again, or pass --data {place} to use them as "
                "they are now."
            )
        return dataset

    def _answers_by_paths(self, vocabulary: Vocabulary) -> bool:
        """Whether the run answers on a graph with these labels without embeddings of entities.

        A combined run has embeddings for the entities of its training.
        """
        if not self.config.inductive or vocabulary == self.vocabulary:
            return False
        return not (
            self.config.combined and self.vocabulary.entity_ids.keys() >= {*vocabulary.entities}
        )

    def _reading(self, data: str | Path | None) -> Reading:
        """The options that the run's data were loaded with; none for other data."""
        options = {} if data is not None else self.read_info().get("loading", {}).get("reading", {})
        try:
            return reading_from(options)
        except (ConfigError, TypeError, AttributeError) as error:
            raise RunError(
                f"{self.path / 'run.json'}: invalid options to load the data ({error}). Remedy: "
                "restore the file."
            ) from error

    @standard_state()
    def model(self, dataset: KGDataset, shards: Shards | None = None) -> Model:
        """The model with the weights of `weights`, on the train graph.

        Args:
            dataset: the data.
            shards: the entities that this process owns; see `kgtool.models.factory.load_model`.

        Raises:
            RunError: if the weights are missing, damaged or do not fit.
        """
        path, weights, state = self.weights()
        dataset, config = self.with_features(dataset), self.config
        if config.combined:
            name = None if state.get("part") else "one_path"
            if not config.parts["one_path"].inductive and self._other_entities(dataset):
                name = "all_paths"
            if name is not None:
                self._warn_of_part(name, state)
                weights, config = part_of(weights, name), config.parts[name]
        if config.encoder and self._other_entities(dataset):
            self._warn_of_lacking(dataset)
        return load_model(config, dataset, weights, path, shards)

    def _other_entities(self, dataset: KGDataset) -> bool:
        return dataset.vocabulary.entities != self.vocabulary.entities

    def _warn_of_lacking(self, dataset: KGDataset) -> None:
        """Warn of entities of another graph without features, if the model reads features."""
        if not dataset.features:
            return
        lacking = int(dataset.features.lacks(dataset.entity_features).all(1).sum())
        if lacking:
            warnings.warn(
                f"{lacking:,} of {dataset.num_entities:,} entities of {dataset.name} have no "
                "features; they get the learned vector for missing ones. To give them, pass "
                "--features FILE, or kgtool.load_dataset(..., features=...).",
                KGToolWarning,
                stacklevel=3,
            )

    def _warn_of_part(self, name: str, state: Mapping[str, Any]) -> None:
        """Warn that one part of a combined model answers alone.

        Raises:
            RunError: if the weights do not have this part.
        """
        if name == "one_path":
            message = (
                f"{self.path} has only its embeddings yet, which answer alone. To train its paths, "
                "run the training again with --resume."
            )
        elif state.get("part"):
            message = (
                f"{self.path} answers by paths alone: the graph has other entities than training "
                "had, for which there are no embeddings."
            )
        else:
            raise RunError(
                f"{self.path} has only its embeddings yet, which do not know the entities of this "
                "graph. Remedy: continue the training with --resume."
            )
        warnings.warn(message, KGToolWarning, stacklevel=3)

    @standard_state()
    def scorer(self, dataset: KGDataset) -> ModelScorer:
        """The scorer of `model`."""
        model = self.model(dataset)
        with MappedTables(self.path):
            return model.scorer()

    @standard_state()
    def distributed_scorer(self, dataset: KGDataset) -> Scorer:
        """As `scorer`, for processes that score together; they must call it together.

        With a model that samples negatives, each holds and scores some entities, as in training.
        """
        owners = self.path / OWNERS
        drawing = self.config.samples_negatives and not self.config.combined
        model = self.model(dataset, shards_of(dataset, owners, save=False) if drawing else None)
        with MappedTables(self.path):
            return model.distributed_scorer()


def reopen(out: Path, config: Config, dataset: KGDataset, origin: Mapping[str, Any]) -> Run:
    """Open a run to continue its training, with the epochs and the patience of `config`.

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
        raise RunError(
            f"{out} was begun from {recorded_start['run']}. Remedy: resume with --init-from "
            f"{recorded_start['run']}."
            if recorded_start
            else f"{out} was begun at random. Remedy: resume without --init-from."
        )
    # The path of the data may change; its fingerprint may not.
    wanted = {name: getattr(config.training, name) for name in MAY_CHANGE}
    training = run.config.training.model_copy(update=wanted)
    longer = run.config.model_copy(update={"training": training})
    if differences := longer.model_copy(update={"data": config.data}).differences(config):
        raise RunError(
            f"{out} was begun with another configuration: {'; '.join(differences)}. Remedy: resume "
            f"with its own {out / 'config.toml'}, in which only "
            f"{' and '.join(f'training.{name}' for name in MAY_CHANGE)} may change, or train into "
            "another folder."
        )
    if recorded["fingerprint"] != dataset.fingerprint:
        raise RunError(f"{out} was begun on other data. Remedy: resume with the same files.")
    if recorded.get("features") != features_info(config, dataset).get("features"):
        raise RunError(f"{out} was begun with other features. Remedy: resume with the same files.")
    sources = origin.get("sources", [])
    begun = recorded.get("sources", sources)
    if changed := [each["name"] for each in sources if each not in begun]:
        raise RunError(
            f"{out} was begun with other triples or labels in {', '.join(changed)}. Remedy: resume "
            "with the same files of pretrain.graphs, or train into another folder."
        )
    for name in (BEST, LAST, PREVIOUS, OWNERS, HISTORY, LOG):
        run.written(name)
    run.hold(dataset)
    return Run(out, longer, run.vocabulary)


def part_of(weights: Tensors, name: str) -> Tensors:
    """The weights of one part of a combined model, by their names in the part."""
    prefix = f"{name}."
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}


def reads_features(config: Config) -> bool:
    """Whether the model of a configuration reads features of entities."""
    return bool(config.encoder and config.encoder.features)


def features_info(config: Config, dataset: KGDataset) -> dict[str, str]:
    """The fingerprint of the features that a run reads, for `run.json`."""
    if not reads_features(config) or dataset.features is None:
        return {}
    return {"features": dataset.features.fingerprint}


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
