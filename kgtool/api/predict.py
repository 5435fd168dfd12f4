"""Predict with a run: answers to queries, next steps of walks, routes and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kgtool.api.arguments import is_whole
from kgtool.api.runs import (
    AnyData,
    AnyRun,
    refuse_again,
    require_embeddings,
    walk_model,
    with_data,
)
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.labels import LabelIndex
from kgtool.data.loaders.cells import cells_of
from kgtool.data.loaders.labels import read_labels, read_types
from kgtool.data.splitting import distinct
from kgtool.errors import ConfigError, DataError, RunError, described
from kgtool.inference.neighbours import nearest_rows
from kgtool.inference.predictor import Predictor
from kgtool.inference.query import parse_question, questions_of
from kgtool.inference.walks import likeliest_routes, next_steps
from kgtool.ops import keep_large_blocks


def open_predictor(
    run: AnyRun,
    data: AnyData | None = None,
    labels: str | Path | None = None,
    types: str | Path | None = None,
    *,
    assumed_missing: int | None = None,
) -> Predictor:
    """A run ready to answer queries: load it once for many queries.

    Args:
        run: a run or its folder; or data, on which pre-trained weights answer.
        data: the data set or its path; by default the path that the run was trained on.
        labels: a table of labels and readable names, which queries may then use; see
            `kgtool.data.loaders.labels`.
        types: a table of labels and types of entities. By default the entities that train has on a
            side of a relation have the type of that side.
        assumed_missing: the number of facts that the graph lacks, at least 1, by which
            probabilities are calibrated; by default as many as valid and test hold.

    Raises:
        RunError, DataError: when run, data, labels or types cannot be used.
        ConfigError: for an `assumed_missing` below 1.
    """
    if assumed_missing is not None and not is_whole(assumed_missing, 1):
        raise ConfigError(
            f"assumed_missing is {described(assumed_missing)}, but a graph that lacks nothing has "
            "no new facts. Remedy: give a number of facts from 1."
        )
    keep_large_blocks()
    found, dataset = with_data(run, data)
    known: dict[str, int] = {}
    if labels is not None or types is not None:
        known = {**dataset.vocabulary.entity_ids, **dataset.vocabulary.relation_ids}
    readable = read_labels(labels, known) if labels is not None else {}
    read, fitting = dataset, None
    if found.shipped_weights() and len(dataset.valid) + len(dataset.test):
        read, fitting = _with_all_facts(dataset), partial(found.scorer, dataset)
    return Predictor(
        found, dataset, found.scorer(read), LabelIndex(dataset.vocabulary, readable),
        read_types(types, known) if types is not None else None, assumed_missing, fitting,
    )  # fmt: skip


def _with_all_facts(dataset: KGDataset) -> KGDataset:
    """The data set with the triples of all splits in train."""
    facts = torch.cat([dataset.split(split) for split in SPLITS])
    kept = distinct(facts, dataset.num_relations)
    weights = {}
    if dataset.weights:
        weights["train"] = torch.cat([dataset.weight(split) for split in SPLITS])[kept]
    return replace(dataset, train=facts[kept], weights=weights)


def predictor_of(
    run: AnyRun,
    data: AnyData | None = None,
    labels: str | Path | None = None,
    *,
    types: str | Path | None = None,
    assumed_missing: int | None = None,
) -> Predictor:
    """A predictor itself, or the predictor of a run; the arguments are those of `open_predictor`.

    Raises:
        RunError: when others come with a predictor, which has its own.
    """
    if isinstance(run, Predictor):
        refuse_again(data=data, labels=labels, types=types, assumed_missing=assumed_missing)
        return run
    return open_predictor(run, data, labels, types, assumed_missing=assumed_missing)


def predict(
    run: AnyRun,
    head: Any = None,
    relation: str | None = None,
    tail: str | None = None,
    top: int = 10,
    *,
    include_known: bool = False,
    filter_types: bool = False,
    any_type: bool = False,
    data: AnyData | None = None,
    labels: str | Path | None = None,
) -> pd.DataFrame:
    """The best answers to queries, with scores and probabilities.

    A query is a head, a relation and a tail. One of them is asked for: it is None or `"?"`. So
    `predict(run, "ada", "mother_of")` asks for tails, and `predict(run, None, "mother_of", "ben")`
    for heads.

    Args:
        run: a run, its folder, or a predictor from `open_predictor`, which is faster when reused.
        head, relation, tail: a query. Entities are given by label or readable label, relations by
            label; `^r` is the inverse of `r`, and `r1/r2` a path. Or many queries in place of the
            head: a list of triples, a data frame with columns as for `kgtool.dataset_of`, whose
            missing cells or missing column are asked for, or a list of dictionaries.
        top: most answers per query.
        include_known: also return known answers, which the column `known` marks.
        filter_types: only entities that train has on that side of the relation.
        any_type: also answers that the known facts speak against, such as a person as its own
            husband; see `kgtool.inference.plausible`.
        data, labels: as in `open_predictor`.

    Returns:
        See `kgtool.inference.predictor.Predictor.ask`.

    Raises:
        RunError, DataError: when run or data cannot be used, or a query cannot be read.
        ScoreError: when the model gives a score that is not finite.
    """
    queries = questions_of(head, relation, tail)  # first: loading a run takes longer
    predictor = predictor_of(run, data, labels)
    parsed = [parse_question(query, predictor.labels) for query in queries]
    answers = predictor.ask(parsed, top, not include_known, filter_types, any_type=any_type)
    return predictor.labels.with_names(answers)


def score_triples(
    run: AnyRun,
    triples: Any,
    *,
    strict: bool = False,
    data: AnyData | None = None,
    labels: str | Path | None = None,
) -> pd.DataFrame:
    """Score triples that are given in full: one row each, in the given order.

    Args:
        run, data, labels: as in `predict`.
        triples: a data frame, whose columns head, relation and tail are found as by
            `kgtool.dataset_of`, or rows of three labels or readable names. A relation is `r`, `^r`,
            or a path `r1/r2`.
        strict: refuse the triples if one of them cannot be scored.

    Returns:
        See `kgtool.inference.predictor.Predictor.score_triples`. The index is that of a given data
        frame, so that `frame.join(result[["score", "probability"]])` puts both next to its columns.

    Raises:
        RunError, DataError: when run or data cannot be used; for a row that is not a triple; if
            `strict`, for a triple that cannot be scored.
        ScoreError: when the model gives a score that is not finite.
    """
    predictor = predictor_of(run, data, labels)
    rows = list(zip(*cells_of(triples, "triples").columns, strict=True))
    scored = predictor.score_triples(rows, strict)
    return scored.set_index(triples.index) if isinstance(triples, pd.DataFrame) else scored


def neighbours(
    run: AnyRun,
    entity: str,
    top: int = 10,
    *,
    data: AnyData | None = None,
    labels: str | Path | None = None,
) -> pd.DataFrame:
    """The nearest neighbours of an entity, by the cosine of the embeddings that `export` writes.

    Args:
        run, data, labels: as in `predict`.
        entity: its id or readable label.
        top: most neighbours.

    Returns:
        One row per entity, nearest first: `entity` (label), `cosine`.

    Raises:
        RunError, DataError: when run or data cannot be used, the run has no embeddings, or the data
            have no such entity.
    """
    predictor = predictor_of(run, data, labels)
    states = require_embeddings(predictor.run, predictor.scorer).entity_states()
    row, cosine = nearest_rows(states, predictor.labels.entity(entity), top)
    names = predictor.dataset.vocabulary.entities
    table = pd.DataFrame(
        {"entity": [names[i] for i in row.tolist()], "cosine": cosine.numpy().astype(np.float64)}
    )
    return predictor.labels.with_names(table)


def predict_next(
    run: AnyRun,
    walk: Sequence[str],
    top: int = 10,
    data: AnyData | None = None,
) -> pd.DataFrame:
    """The likeliest next steps of a walk, likeliest first.

    Args:
        run: a run trained with `one_path.walk_ratio`, or its folder.
        walk: labels of an entity, a relation, an entity and so on; `^r` is the inverse of `r`.
        top: most steps.
        data: the data set or its path; by default the path that the run was trained on.

    Returns:
        One row per step: `relation`, `entity`, the `probability` of both given the walk, that
        `of_relation` alone, and whether train has the step (`known`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    if len(walk) % 2 == 0:
        raise DataError(
            f"a walk of {len(walk)} labels does not end at an entity. Remedy: give an entity, or "
            "an entity, a relation, an entity and so on."
        )
    found, dataset = with_data(run, data)
    model, _ = walk_model(found, dataset)
    labels, vocabulary = LabelIndex(dataset.vocabulary), dataset.vocabulary
    entities = [labels.entity(label) for label in walk[::2]]
    relations = [labels.relation(label) for label in walk[1::2]]
    steps = next_steps(model.reader(), model.graph, entities, relations, top)
    rows = (
        (
            vocabulary.steps[s.relation],
            vocabulary.entities[s.entity],
            s.probability,
            s.of_relation,
            s.is_known,
        )
        for s in steps
    )
    columns = ["relation", "entity", "probability", "of_relation", "known"]
    return pd.DataFrame(rows, columns=columns)


def predict_routes(
    run: AnyRun,
    head: str,
    tail: str | None = None,
    *,
    max_length: int | None = None,
    top: int = 10,
    data: AnyData | None = None,
) -> pd.DataFrame:
    """The likeliest relation paths from a head, or from a head to a tail, likeliest first.

    Args:
        run: a run trained with `one_path.walk_ratio`, or its folder.
        head, tail: labels of entities.
        max_length: most relations of a path; by default the longest that the run was trained on.
        top: most paths.
        data: the data set or its path; by default the path that the run was trained on.

    Returns:
        One row per path: its relations (`path`, a tuple; `^r` is the inverse of `r`), the
        `probability` that a walk from the head (to the tail) takes these relations and then ends,
        the number of entities that the path reaches in train (`ends`) and, with a tail, whether
        the path reaches the tail (`arrives`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    opened, dataset = with_data(run, data)
    model, longest = walk_model(opened, dataset)
    length = longest if max_length is None else max_length
    if length > longest:
        raise RunError(
            f"{opened.path} was trained on walks of at most {longest} relations. Remedy: choose a "
            f"shorter length, or train with one_path.max_path_length={length}."
        )
    labels, vocabulary = LabelIndex(dataset.vocabulary), dataset.vocabulary
    ids = [labels.entity(label) for label in (head, tail) if label is not None]
    goal = ids[1] if tail is not None else None
    found = likeliest_routes(model.reader(), model.graph, ids[0], goal, max_length=length, top=top)
    table = pd.DataFrame(
        [
            (tuple(vocabulary.steps[r] for r in route.relations), route.probability, route.ends)
            for route in found
        ],
        columns=["path", "probability", "ends"],
    )
    return table if tail is None else table.assign(arrives=[route.arrives for route in found])
