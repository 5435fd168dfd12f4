"""Where walks go on: the sequences that a one-path run reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kgtool.api.runs import about_data, loaded, opened, result_file
from kgtool.data.dataset import KGDataset
from kgtool.data.labels import LabelIndex
from kgtool.errors import DataError, RunError
from kgtool.evaluation.tasks.walk_perplexity import WalkPerplexity, perplexity
from kgtool.inference.walks import likeliest_routes, next_steps
from kgtool.models.model import KGModel
from kgtool.runs.run import Run
from kgtool.storage.files import write_json


def walks(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    count: int = 2000,
    seed: int = 0,
) -> WalkPerplexity:
    """The perplexity of held-out walks, also written into the run's folder: `walks.<split>.json`.

    Args:
        run: a run that reads walks (`one_path.walk_ratio`), or its folder.
        split: `"train"`, `"valid"` or `"test"`; each walk takes an edge of it.
        data: the data set or its place; by default where it was when the run began.
        count: how many walks.
        seed: draws them.

    Raises:
        RunError, DataError: when run or data cannot be used.
    """
    run = opened(run)
    dataset = loaded(run, data)
    model, length = _walking(run, dataset)
    found = perplexity(model.reader(), dataset, split, length, count, seed)
    file = result_file(run, "walks.json", split, dataset, ())
    write_json(file, found.to_dict() | about_data(dataset))
    return replace(found, file=file)


def next_step(
    run: Run | str | Path,
    walk: Sequence[str],
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> pd.DataFrame:
    """The likeliest next steps of a walk, likeliest first.

    Args:
        run: a run that reads walks (`one_path.walk_ratio`), or its folder.
        walk: labels of an entity, a relation, an entity and so on; `^r` is the relation `r` walked
            backwards.
        top: most steps to give.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        A row a step: `relation`, `entity`, their `probability` given the walk, that `of_relation`
        alone, and whether train holds it (`known`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = opened(run)
    if len(walk) % 2 == 0:
        raise DataError(
            f"a walk of {len(walk)} labels does not end at an entity. Remedy: an entity, or an "
            "entity, a relation, an entity and so on."
        )
    dataset = loaded(run, data)
    model, _ = _walking(run, dataset)
    labels, vocabulary = LabelIndex(dataset.vocabulary), dataset.vocabulary
    entities = [labels.entity(label) for label in walk[::2]]
    relations = [labels.relation(label) for label in walk[1::2]]
    found = next_steps(model.reader(), model.graph, entities, relations, top)
    rows = (
        (
            vocabulary.steps[s.relation],
            vocabulary.entities[s.entity],
            s.probability,
            s.of_relation,
            s.known,
        )
        for s in found
    )
    columns = ["relation", "entity", "probability", "of_relation", "known"]
    return pd.DataFrame(rows, columns=columns)


def routes(
    run: Run | str | Path,
    head: str,
    tail: str | None = None,
    length: int | None = None,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> pd.DataFrame:
    """The likeliest relation paths from a head, or from a head to a tail, likeliest first.

    Args:
        run: a run that reads walks (`one_path.walk_ratio`), or its folder.
        head, tail: labels of entities.
        length: most relations of a path; by default that of the walks that the run learned from.
        top: most paths to give.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        A row a path: its relations (`path`, a tuple; `^r` is the relation `r` walked backwards),
        the `probability` that a walk from the head, to the tail, takes these and then ends, how
        many entities it leads to in train (`ends`) and, with a tail, whether the tail is one of
        them (`arrives`).

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = opened(run)
    dataset = loaded(run, data)
    model, longest = _walking(run, dataset)
    length = longest if length is None else length
    if length > longest:
        raise RunError(
            f"{run.path} has learned from walks of at most {longest} relations. Remedy: ask for no "
            f"more, or train with one_path.max_path_length={length}."
        )
    labels, vocabulary = LabelIndex(dataset.vocabulary), dataset.vocabulary
    ids = [labels.entity(label) for label in (head, tail) if label is not None]
    goal = ids[1] if tail is not None else None
    found = likeliest_routes(model.reader(), model.graph, ids[0], goal, length, top)
    table = pd.DataFrame(
        [
            (tuple(vocabulary.steps[r] for r in route.relations), route.probability, route.ends)
            for route in found
        ],
        columns=["path", "probability", "ends"],
    )
    return table if tail is None else table.assign(arrives=[route.arrives for route in found])


def _walking(run: Run, dataset: KGDataset) -> tuple[KGModel, int]:
    """A model that reads walks, and the length of the longest that it learned from."""
    settings = run.config.one_path
    if not (settings and settings.walk_ratio):
        raise RunError(
            f"{run.path} has not learned to read walks. Remedy: train with an [one_path] section "
            "and one_path.walk_ratio=0.5, say."
        )
    model = run.model(dataset)
    assert isinstance(model, KGModel)
    return model, settings.max_path_length
