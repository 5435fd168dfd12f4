"""Write an HTML report and a model card of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgtool.api.runs import AnyData, AnyRun, fitting, opened, result_file, with_data
from kgtool.data.dataset import KGDataset
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
    """Write an HTML page and a model card about a run that `evaluate` has evaluated.

    The card is a Markdown file next to the page: `page.card.md` for `page.html`.

    Args:
        run: a run, its folder, or a predictor.
        split: the evaluated split.
        data: the data set or its path; by default the path that the run was trained on.
        ensemble: the further runs that `evaluate` was called with.
        labels: a table of labels and readable names of entities and relations.
        out: the page; by default `report.<split>.html` next to the files of the evaluation, which
            is written anew each time, as is the card.
        progress: show a progress bar.
        overwrite: replace a page at `out` and its card.

    Returns:
        The page.

    Raises:
        RunError, DataError: when run, data, evaluation or labels cannot be used.
        KGToolError: when the file cannot be written.
    """
    from kgtool.report.card import render_card
    from kgtool.report.content import render_page
    from kgtool.report.facts import facts_of
    from kgtool.report.stored import KINDS, read_stored
    from kgtool.report.tasks import TASKS, tasks_of
    from kgtool.report.words import evaluate_command

    keep_large_blocks()
    if out is not None:
        refuse_existing([out, card_of(out)], overwrite, [labels])
    run, dataset = with_data(run, data, split)
    others = [fitting(opened(other), dataset) for other in ensemble]
    words = [] if data is None else _words_of(data)
    words += [word for other in others for word in ("--ensemble", other.path)]
    command = evaluate_command(run.path, *words, split=split)
    files = {kind: result_file(run, kind, split, dataset, others) for kind in KINDS}
    stored = read_stored(files, dataset, command, len(others))
    # Triples and path queries need a held-out split; path queries and walks are for one run.
    skipped = {"triples", "paths"} if split == "train" else set()
    skipped |= {"paths", "walks"} if others else set()
    kinds = [kind for name, (_, kind, _) in TASKS.items() if name not in skipped]
    tasks = tasks_of(
        {kind: result_file(run, kind, split, dataset, others) for kind in kinds}, run.config,
        command,
    )  # fmt: skip
    facts = facts_of(
        run, dataset, stored, ensemble=others, progress=progress,
        labels=None if labels is None else read_labels(labels),
    )  # fmt: skip
    page, card = render_page(facts, tasks), render_card(facts)
    out = result_file(run, "report.html", split, dataset, others) if out is None else Path(out)
    for place, text in ((out, page), (card_of(out), card)):
        with atomic_write(place) as file:
            file.write(text)
    return out


def _words_of(data: AnyData) -> list[str | Path]:
    """The options of a command that reads these data."""
    if not isinstance(data, KGDataset):
        return ["--data", data]
    words: list[str | Path] = ["--data", data.path or "DATA"]
    return words if data.features is None else [*words, "--features", "FILE"]


def card_of(page: str | Path) -> Path:
    """The model card that `report` writes next to a page, such as `report.test.card.md`."""
    page = Path(page)
    return page.with_name(f"{page.stem}.card.md")
