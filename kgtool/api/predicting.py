"""Ask a run for what is missing: answers to questions, a whole graph's, and what is alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kgtool.api.runs import loaded, opened
from kgtool.data.dataset import KGDataset
from kgtool.data.labels import LabelIndex
from kgtool.data.loaders.labels import read_labels, read_types
from kgtool.errors import DataError, KGToolError
from kgtool.inference.completion import complete as complete_graph
from kgtool.inference.neighbours import nearest_rows
from kgtool.inference.predictor import Predictor
from kgtool.inference.query import parse_question
from kgtool.ops import keep_large_blocks
from kgtool.runs.run import Run
from kgtool.storage.checkpoint import load_tensors, save_tensors


def open_predictor(
    run: Run | str | Path,
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
    types: str | Path | None = None,
) -> Predictor:
    """A run ready to answer: load once, ask often.

    Args:
        run: a run or its folder.
        data: the data set or its place; by default where it was when the run began.
        labels: a file of readable names, `id⇥name` a line; questions may then use these.
        types: a file of types of entities, `id⇥type` a line; by default, what train has shown on a
            side of a relation is of the type that belongs there.

    Raises:
        RunError, DataError: when run, data or names cannot be used.
    """
    keep_large_blocks()
    run = opened(run)
    dataset = loaded(run, data)
    readable = read_labels(labels) if labels is not None else {}
    return Predictor(
        run, dataset, run.scorer(dataset), LabelIndex(dataset.vocabulary, readable),
        read_types(types) if types is not None else None,
    )  # fmt: skip


def predict(
    run: Run | str | Path | Predictor,
    questions: Sequence[Sequence[str]],
    top: int = 10,
    new: bool = True,
    typed: bool = False,
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
) -> pd.DataFrame:
    """The best answers to questions, with scores and probabilities.

    Args:
        run: a run, its folder, or what `open_predictor` gives, which is quicker asked again.
        questions: each three texts, head, relation and tail, one of them `"?"`. An entity is its
            label, or its readable name; a relation is its label, `^r` the inverse of `r`, and
            `r1/r2` a path of several.
        top: most answers of each.
        new: only what no split holds; else all, and what is known says so.
        typed: only entities of the types that train has shown on that side of the relation.
        data, labels: as of `open_predictor`.

    Returns:
        See `kgtool.inference.predictor.Predictor.ask`.

    Raises:
        RunError, DataError: when run or data cannot be used, or a question is none.
        ScoreError: when the model gives a score that is not finite.
    """
    found = run if isinstance(run, Predictor) else open_predictor(run, data, labels)
    return found.ask([parse_question(q, found.labels) for q in questions], top, new, typed)


def complete(
    run: Run | str | Path | Predictor,
    top: int = 1000,
    relations: Sequence[str] = (),
    typed: bool = False,
    data: KGDataset | str | Path | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The likeliest triples of the whole graph that no split holds, see
    `kgtool.inference.completion`.

    Args:
        run, data: as of `predict`.
        top: most triples.
        relations: labels of the relations to ask for; all by default.
        typed: only tails of the types that train has shown of the relation.
        progress: show a progress bar.

    Returns:
        A row a triple, likeliest first: `head`, `relation`, `tail`, `score`, `probability`; in
        `attrs`, how many entities were asked (`asked`, `of`).

    Raises:
        RunError, DataError: when run or data cannot be used, or valid has nothing to fit
            probabilities on.
        ScoreError: when the model gives a score that is not finite.
    """
    asked = run if isinstance(run, Predictor) else open_predictor(run, data)
    if asked.probability is None:
        raise DataError(
            f"the valid split of {asked.dataset.name} holds too little to tell what is likely. "
            "Remedy: data with more valid triples."
        )
    found = complete_graph(
        asked.scorer, asked.dataset, asked.probability, top,
        [asked.labels.relation(relation) for relation in relations] or None,
        asked.types if typed else None, progress,
    )  # fmt: skip
    names = asked.dataset.vocabulary
    head, relation, tail = found.triples.T.tolist()
    table = pd.DataFrame(
        {
            "head": [names.entities[i] for i in head],
            "relation": [names.steps[i] for i in relation],
            "tail": [names.entities[i] for i in tail],
            "score": found.score.numpy(),
            "probability": found.probability,
        }
    )
    table.attrs.update(asked=found.asked, of=found.of)
    return table


def neighbours(
    run: Run | str | Path | Predictor,
    entity: str,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
) -> pd.DataFrame:
    """The entities most like one, by the cosine of their states, as `export` writes them.

    The states of an all-paths run are a pass each: they are kept in the run's folder.

    Args:
        run, data, labels: as of `predict`.
        entity: its label or readable name.
        top: most to give.

    Returns:
        A row an entity, most alike first: `entity` (label), `cosine`.

    Raises:
        RunError, DataError: when run or data cannot be used, or there is no such entity.
    """
    asked = run if isinstance(run, Predictor) else open_predictor(run, data, labels)
    own = asked.labels.entity(entity)
    row, cosine = nearest_rows(states(asked), own, top)
    names = asked.dataset.vocabulary.entities
    return pd.DataFrame(
        {"entity": [names[i] for i in row.tolist()], "cosine": cosine.numpy().astype(np.float64)}
    )


def states(asked: Predictor) -> torch.Tensor:
    """`(num_entities, d)`: entity states, read from the run's folder where they are kept."""
    file = asked.kept("states")
    if file is None or asked.run.config.one_path:
        return asked.scorer.entities
    if file.exists():
        found = load_tensors(file)[0].get("entities")
        if (
            found is not None
            and found.dtype == torch.float32
            and found.shape == (asked.dataset.num_entities, asked.run.config.dim)
            and bool(found.isfinite().all())
        ):
            return found
    with suppress(KGToolError):  # a run that may not be written to answers all the same
        save_tensors(file, {"entities": asked.scorer.entities}, {})
    return asked.scorer.entities
