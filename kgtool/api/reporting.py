"""Write a page about a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgtool.api.runs import fitting, loaded, opened, result_file
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders.labels import read_labels
from kgtool.ops import keep_large_blocks
from kgtool.runs.run import Run
from kgtool.storage.files import atomic_write


def write_report(
    run: Run | str | Path,
    split: str = "test",
    data: KGDataset | str | Path | None = None,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = False,
    beside: Sequence[Run | str | Path] = (),
) -> Path:
    """Write one HTML page about a run that `evaluate` was asked of; see `kgtool.report`.

    Args:
        run: a run or its folder.
        split: the one evaluated.
        data: the data set or its place; by default where it was when the run began.
        labels: a file of `id⇥label` lines: what to show for entities and relations.
        out: the page; by default `report.<split>.html` beside the evaluation's files.
        progress: show a progress bar.
        beside: the further runs that `evaluate` was asked with.

    Returns:
        The file written.

    Raises:
        RunError, DataError: when run, data, evaluation or labels cannot be used.
        KGToolError: when the file cannot be written.
    """
    from kgtool.report.content import render_page
    from kgtool.report.stored import KINDS, read_stored

    keep_large_blocks()
    run = opened(run)
    command = f"kgtool evaluate {run.path}" + ("" if split == "test" else f" --split {split}")
    if isinstance(data, (str, Path)):
        command += f" --data {data}"
    dataset = loaded(run, data)
    others = [fitting(opened(other), dataset) for other in beside]
    command += "".join(f" --with {other.path}" for other in others)
    files = {kind: result_file(run, kind, split, dataset, others) for kind in KINDS}
    stored = read_stored(files, dataset, command, len(others))
    named = None if labels is None else read_labels(labels)
    page = render_page(run, dataset, stored, named, progress, others)
    out = result_file(run, "report.html", split, dataset, others) if out is None else Path(out)
    with atomic_write(out) as file:
        file.write(page)
    return out
