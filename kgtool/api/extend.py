"""Extend a trained run by new triples and entities, without training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kgtool.api.runs import AnyData, AnyRun, with_data
from kgtool.api.split import read_any
from kgtool.data.growth import grow
from kgtool.data.loaders import LOOK, Reading, load_negatives
from kgtool.data.loaders.feature_files import any_features
from kgtool.data.loaders.write import write_dataset
from kgtool.errors import DataError, RunError
from kgtool.models.factory import build_model
from kgtool.ops import own_random_state
from kgtool.runs.log import log_to
from kgtool.runs.run import BEST, HISTORY, LOG, Run, reads_features, refuse_taken
from kgtool.storage.checkpoint import save_tensors
from kgtool.storage.files import atomic_folder
from kgtool.training.warm_start import carry

DATA = "data"


def extend(
    run: AnyRun,
    triples: Any,
    out: str | Path,
    data: AnyData | None = None,
    reading: Reading = LOOK,
    *,
    features: Any = None,
) -> Run:
    """Add triples to the train triples of a run, without training: a new run folder.

    The new run keeps the ids and appends those of new entities, and of new relations if the model
    reads relations by an encoder (`encoder.kind = "relations"`). It keeps the weights; entities
    without an edge in training get initial embeddings if the model has any (see
    `kgtool.models.model.Model.start_entities`). Its folder holds the extended data, and the
    history and log of the original training. It has no optimizer state: to train further,
    initialise a run from it.

    Triples that any split of the data has already are not added: triples of valid and test stay
    queries. `run.json` counts them under `extended`.

    Args:
        run: a run, its folder, or a predictor.
        triples: one or more files of triples in any format, see
            `kgtool.data.loaders.read_triples`; or triples in memory, see `kgtool.dataset_of`.
        out: the new run's folder; written whole or not at all.
        data: the data set to extend or its path; by default the path that the run was trained on.
        reading: how to read the files of triples; by default their format is inferred.
        features: vectors of entities for a model that reads features, in addition to those of the
            run: files, or vectors in memory; see `kgtool.load_dataset`.

    Raises:
        RunError: when the run cannot be used, or `out` is not empty.
        DataError: when data or triples cannot be used, no triple is new, or a relation is new and
            the model has weights for each relation: an untrained relation has none.
        KGToolError: when a file cannot be written.
    """
    out = Path(out)
    refuse_taken(out, "choose another --out, or remove it")
    run, dataset = with_data(run, data)
    if features is not None:
        if not reads_features(run.config):
            raise RunError(
                f"{run.path} was trained without features. Remedy: extend it without them, or "
                "train with encoder.features."
            )
        dataset = replace(dataset, features=any_features(features, dataset))
    relations = None if run.config.conditional else dataset.vocabulary.relations
    given, places = read_any(triples, reading, relations)
    growth = grow(dataset, given.vocabulary, given.triples)
    if not growth.added:
        raise DataError(
            f"{', '.join(places)}: the data hold all {len(given.triples):,} triples "
            "already. Remedy: give new ones."
        )
    grown = run.with_features(growth.dataset)
    file, weights, state = run.weights(whole=True)
    with own_random_state():
        torch.manual_seed(run.config.seed)
        model = build_model(run.config, grown)
    carry(model, weights, run.vocabulary, grown.vocabulary, file)
    model.start_entities(growth.unseen)
    negatives = load_negatives(dataset.path, dataset.vocabulary) if dataset.path else {}
    config = run.config.model_copy(update={"data": str(out / DATA)})
    source = {"files": places, **growth.counts()}
    if grown.features is not None:
        lacking = grown.features.lacks(grown.entity_features).all(1)
        source["new entities without features"] = int(lacking[dataset.num_entities :].sum())
    with atomic_folder(out) as folder:
        Run.create(folder, config, grown, {"data": DATA, "extended": run.origin() | source})
        write_dataset(grown, folder / DATA, negatives)
        save_tensors(folder / BEST, model.state_dict(), state)
        for name in (HISTORY, LOG):
            if (run.path / name).is_file():
                shutil.copyfile(run.path / name, folder / name)
        with log_to(folder / LOG) as log:
            log.info("extended from %s by %d triples", run.path, growth.added)
    return Run.open(out)
