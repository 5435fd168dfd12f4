"""Explain a score by relation paths."""

from __future__ import annotations

from pathlib import Path

from kgtool.api.predict import open_predictor
from kgtool.data.dataset import KGDataset
from kgtool.inference.explain import Explanation
from kgtool.inference.predictor import Predictor
from kgtool.runs.run import Run


def explain(
    run: Run | str | Path | Predictor,
    head: str,
    relation: str,
    tail: str,
    top: int = 10,
    *,
    data: KGDataset | str | Path | None = None,
) -> Explanation:
    """The relation paths that carry the score of a triple, strongest first.

    `Explanation.score` is `carried` by the listed paths plus the `rest`.

    Args:
        run: an all-paths run, its folder, or a predictor from `open_predictor`.
        head, relation, tail: labels; `^r` is the inverse of the relation `r`.
        top: most paths.
        data: the data set or its path; by default the path that the run was trained on.

    Raises:
        RunError, DataError: when run or data cannot be used, or the data lack a label.
    """
    predictor = run if isinstance(run, Predictor) else open_predictor(run, data)
    return predictor.explain(head, relation, tail, top)
