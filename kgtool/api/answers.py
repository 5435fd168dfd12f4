"""What a run says and why: explanations, embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kgtool.api.predicting import open_predictor
from kgtool.api.runs import loaded, opened
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders.labels import read_labels
from kgtool.errors import RunError
from kgtool.export import FORMS, export_embeddings, known_forms
from kgtool.inference.explain import Explanation
from kgtool.inference.predictor import Predictor
from kgtool.runs.run import Run


def explain(
    run: Run | str | Path | Predictor,
    head: str,
    relation: str,
    tail: str,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> Explanation:
    """The relation paths that carried the score of a triple, strongest first.

    Args:
        run: an all-paths run, its folder, or what `open_predictor` gives.
        head, relation, tail: labels; `^r` is the inverse of the relation `r`.
        top: most paths to give.
        data: the data set or its place; by default where it was when the run began.

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    asked = run if isinstance(run, Predictor) else open_predictor(run, data)
    return asked.explain(head, relation, tail, top)


def export(
    run: Run | str | Path,
    out: str | Path,
    data: KGDataset | str | Path | None = None,
    forms: Iterable[str] = tuple(FORMS),
    labels: str | Path | None = None,
) -> list[Path]:
    """Write a run's entity and relation states to a folder, in forms that other tools read.

    The states are the encoder's, so they hold what the train graph says; inverses included. Of an
    all-paths model, an entity's is the one that its own pass leaves at it, a relation's the part of
    its query that such states are multiplied with.

    Args:
        run: a run or its folder.
        out: the folder.
        data: the data set or its place; by default where it was when the run began.
        forms: some of `tsv`, `projector`, `word2vec`, `npy`, `parquet`, `safetensors`, all by
            default; see `kgtool.export.export_embeddings`.
        labels: a file of `id⇥label` lines: readable names for the points of the projector.

    Returns:
        The files written.

    Raises:
        RunError, DataError: when run, data or labels cannot be used, or `out` is a run.
        ConfigError: for an unknown form.
        KGToolError: when a file cannot be written.
    """
    forms = known_forms(forms)
    run = opened(run)
    if (Path(out) / "config.toml").exists():
        raise RunError(
            f"{out} is a run, whose entities.tsv an export would replace. Remedy: another folder, "
            f"as in {Path(out) / 'export'}."
        )
    names = None if labels is None else read_labels(labels)
    dataset = loaded(run, data)
    scorer = run.scorer(dataset)
    vocabulary = dataset.vocabulary
    return export_embeddings(vocabulary, scorer.entities, scorer.relations, out, forms, names)
