"""Write an HTML report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgtool.api.runs import AnyData, AnyRun, fitting, opened, result_file, with_data
from kgtool.data.loaders.labels import read_labels
from kgtool.ops import keep_large_blocks
from kgtool.storage.files import atomic_write, refuse_existing


def report(
    run: AnyRun,
    split: str = "test",
    data: AnyData | None = None,
    *,
    ensemble: Sequence[AnyRun] = (),
    labels: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a run that `evaluate` has evaluated; see `kgtool.report`.

    Args:
        run: a run, its folder, or a predictor.
        split: the evaluated split.
        data: the data set or its path; by default the path that the run was trained on.
        ensemble: the further runs that `evaluate` was called with.
        labels: a table of labels and readable names of entities and relations.
        out: the page; by default `report.<split>.html` next to the files of the evaluation, which
            is written anew each time.
        progress: show a progress bar.
        overwrite: replace a file at `out`.

    Returns:
        The file written.

    Raises:
        RunError, DataError: when run, data, evaluation or labels cannot be used.
        KGToolError: when the file cannot be written.
    """
    from kgtool.report.content import render_page
    from kgtool.report.stored import KINDS, read_stored

    keep_large_blocks()
    refuse_existing([] if out is None else [out], overwrite, [labels])
    run, dataset = with_data(run, data, split)
    command = f"kgtool evaluate {run.path}" + ("" if split == "test" else f" --split {split}")
    if isinstance(data, (str, Path)):
        command += f" --data {data}"
    others = [fitting(opened(other), dataset) for other in ensemble]
    command += "".join(f" --ensemble {other.path}" for other in others)
    files = {kind: result_file(run, kind, split, dataset, others) for kind in KINDS}
    stored = read_stored(files, dataset, command, len(others))
    named = None if labels is None else read_labels(labels)
    page = render_page(run, dataset, stored, labels=named, progress=progress, ensemble=others)
    out = result_file(run, "report.html", split, dataset, others) if out is None else Path(out)
    with atomic_write(out) as file:
        file.write(page)
    return out
