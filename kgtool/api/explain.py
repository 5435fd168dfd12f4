"""Explain a score by relation paths."""

from __future__ import annotations

from kgtool.api.predict import predictor_of
from kgtool.api.runs import AnyData, AnyRun
from kgtool.inference.explain import Explanation


def explain(
    run: AnyRun,
    head: str,
    relation: str,
    tail: str,
    top: int = 10,
    *,
    data: AnyData | None = None,
) -> Explanation:
    """The relation paths that carry the score of a triple, strongest first.

    `Explanation.score` is `carried` by the listed paths plus the `rest`, which includes the part of
    the embeddings.

    Args:
        run: a run with all paths, its folder, or a predictor from `open_predictor`.
        head, relation, tail: labels; `^r` is the inverse of the relation `r`.
        top: most paths.
        data: the data set or its path; by default the path that the run was trained on.

    Raises:
        RunError, DataError: when run or data cannot be used, or the data lack a label.
    """
    return predictor_of(run, data).explain(head, relation, tail, top)
