"""What a run says and why: explanations, embeddings."""

from __future__ import annotations

from pathlib import Path

from kgtool.api.runs import loaded, opened
from kgtool.errors import RunError
from kgtool.explain import Explanation, explain_triple, name_path
from kgtool.export import export_embeddings
from kgtool.model import PathModel
from kgtool.run import Run
from kgtool.triples import KGDataset
from kgtool.words import Words


def explain(
    run: Run | str | Path,
    head: str,
    relation: str,
    tail: str,
    top: int = 10,
    data: KGDataset | str | Path | None = None,
) -> Explanation:
    """The relation paths that carried the score of a triple, strongest first.

    Args:
        run: an all-paths run or its folder.
        head, relation, tail: labels; `^r` is the inverse of the relation `r`.
        top: most paths to give.
        data: the data set or its place; by default where it was when the run began.

    Raises:
        RunError, DataError: when run or data cannot be used, or a label is not known.
    """
    run = opened(run)
    dataset = loaded(run, data)
    model = run.model(dataset)
    if not isinstance(model, PathModel):
        raise RunError(
            f"{run.path} reads one path at a time, its scores have no paths to show. Remedy: train "
            "with an [all_paths] section."
        )
    words = Words(dataset.vocabulary)
    triple = words.entity(head), words.relation(relation), words.entity(tail)
    scorer = model.cpu().scorer()
    found = explain_triple(scorer.decoder, scorer.graph, triple, feed=scorer.feed)[:top]
    return Explanation(
        (head, relation, tail), tuple(name_path(path, dataset.vocabulary) for path in found)
    )


def export(
    run: Run | str | Path, out: str | Path, data: KGDataset | str | Path | None = None
) -> list[Path]:
    """Write a run's entity and relation states to a folder: TSV, projector pair, word2vec.

    The states are the encoder's, so they hold what the train graph says; inverses included. Of an
    all-paths model, an entity's is the one that its own pass leaves at it, a relation's the part of
    its query that such states are multiplied with.

    Args:
        run: a run or its folder.
        out: the folder; see `kgtool.export` for its files.
        data: the data set or its place; by default where it was when the run began.

    Returns:
        The files written.

    Raises:
        RunError, DataError: when run or data cannot be used.
        KGToolError: when a file cannot be written.
    """
    run = opened(run)
    dataset = loaded(run, data)
    scorer = run.model(dataset).scorer()
    return export_embeddings(dataset.vocabulary, scorer.entities, scorer.relations, out)
