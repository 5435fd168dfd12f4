"""Complete a graph: its most probable missing triples."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kgtool.api.predict import predictor_of
from kgtool.api.runs import AnyData, AnyRun
from kgtool.errors import DataError
from kgtool.inference.completion import complete as complete_graph


def complete(
    run: AnyRun,
    top: int = 1000,
    *,
    relations: Sequence[str] = (),
    filter_types: bool = False,
    any_type: bool = False,
    data: AnyData | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The most probable triples of the whole graph that are in no split.

    See `kgtool.inference.completion`.

    Args:
        run, data: as in `predict`.
        top: most triples.
        relations: labels of the relations of the triples; all by default.
        filter_types: only tails that train has with the relation.
        any_type: also tails that the known facts speak against, see `predict`.
        progress: show a progress bar.

    Returns:
        One row per triple, most probable first: `head`, `relation`, `tail`, `score`,
        `probability`; in `attrs`, the number of heads that were scored (`asked`) and of all heads
        (`of`).

    Raises:
        RunError, DataError: when run or data cannot be used, or valid is too small to fit
            probabilities.
        ScoreError: when the model gives a score that is not finite.
    """
    predictor = predictor_of(run, data)
    probability = predictor.probability()
    if probability is None:
        raise DataError(
            f"the valid split of {predictor.dataset.name} is too small to fit probabilities. "
            "Remedy: give data with more valid triples."
        )
    found = complete_graph(
        predictor.scorer, predictor.dataset, probability, top,
        relations=[predictor.labels.relation(relation) for relation in relations] or None,
        types=predictor.types if filter_types else None if any_type else predictor.plausible,
        progress=progress,
    )  # fmt: skip
    names = predictor.dataset.vocabulary
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
    return predictor.labels.with_names(table)
