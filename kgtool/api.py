"""What a notebook does with a run: evaluate it, export it."""

from __future__ import annotations

from pathlib import Path

from kgtool.evaluator import Evaluation, evaluate_model
from kgtool.export import export_embeddings
from kgtool.files import write_json
from kgtool.ops import keep_large_blocks
from kgtool.run import Run, versions
from kgtool.triples import KGDataset


def evaluate(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Link prediction metrics of a run, also written to `metrics.<split>.json` in its folder.

    Args:
        run: a run or its folder.
        split: `"train"`, `"valid"` or `"test"`.
        data: the data set or its place; by default where it was when the run began.
        progress: show a progress bar.

    Raises:
        RunError, DataError: when run or data cannot be used.
        ScoreError: when the model gives a score that is not finite.
    """
    keep_large_blocks()
    run = _opened(run)
    dataset = _loaded(run, data)
    found = evaluate_model(run.model(dataset).scorer(), dataset, split, progress=progress)
    about = {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
    write_json(
        run.path / f"metrics.{split}.json",
        found.to_dict() | about | {"versions": versions()},
    )
    return found


def export(
    run: Run | str | Path, out: str | Path, data: KGDataset | str | Path | None = None
) -> list[Path]:
    """Write a run's entity and relation states to a folder: TSV, projector pair, word2vec.

    The states are the encoder's, so they hold what the train graph says; inverses included.

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
    run = _opened(run)
    scorer = run.model(_loaded(run, data)).scorer()
    return export_embeddings(run.vocabulary, scorer.entities, scorer.relations, out)


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else Run.open(run)


def _loaded(run: Run, data: KGDataset | str | Path | None) -> KGDataset:
    return data if isinstance(data, KGDataset) else run.dataset(data)
