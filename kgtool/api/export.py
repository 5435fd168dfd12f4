"""Export the embeddings of a run for other tools."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kgtool.api.runs import AnyData, AnyRun, require_embeddings, with_data
from kgtool.data.loaders.labels import read_labels
from kgtool.errors import RunError
from kgtool.export import FORMS, export_embeddings, known_forms
from kgtool.storage.files import refuse_existing


def export(
    run: AnyRun,
    out: str | Path,
    data: AnyData | None = None,
    *,
    formats: Iterable[str] = tuple(FORMS),
    labels: str | Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a run's entity and relation embeddings to a folder, in formats of other tools.

    These are the encoder's states over the train graph; relations include inverses. A model of
    paths alone has none.

    Args:
        run: a run, its folder, or a predictor.
        out: the folder.
        data: the data set or its path; by default the path that the run was trained on.
        formats: some of `tsv`, `projector`, `word2vec`, `npy`, `parquet`, `safetensors`, all by
            default; see `kgtool.export.export_embeddings`.
        labels: a table of labels and readable names, for the projector and the tables.
        overwrite: replace files of an earlier export.

    Returns:
        The files written.

    Raises:
        RunError, DataError: when run, data or labels cannot be used, the run has no embeddings, or
            `out` is a run.
        ConfigError: for an unknown format, or a file that exists when `overwrite` is false.
        KGToolError: when a file cannot be written.
    """
    chosen = known_forms(formats)
    if (Path(out) / "config.toml").exists():
        raise RunError(
            f"{out} is a run, and the export would replace its entities.tsv. Remedy: choose "
            f"another folder, such as {Path(out) / 'export'}."
        )
    files = [Path(out) / name for form in chosen for name in FORMS[form].FILES]
    refuse_existing(files, overwrite, [labels])
    names = None if labels is None else read_labels(labels)
    run, dataset = with_data(run, data)
    scorer = require_embeddings(run, run.scorer(dataset))
    entities, relations = scorer.entity_states(), scorer.relation_states()
    return export_embeddings(dataset.vocabulary, entities, relations, out, chosen, names=names)
