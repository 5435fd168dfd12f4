"""The tasks other than link prediction: their main figures, or the command that evaluates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgtool.config import Config
from kgtool.errors import RunError
from kgtool.storage.files import read_json


@dataclass(frozen=True)
class Task:
    """A task and what the run's folder holds of it.

    Attributes:
        question: what the task measures.
        command: the command that evaluates it.
        figures: its main figures, in a line; None if it was not run.
    """

    question: str
    command: str
    figures: str | None


def _relations(found: Mapping[str, Any]) -> str:
    own, counts = found["realistic"], found["counts alone"]["realistic"]
    return (
        f"MRR {own['mrr']:.4f}, Hits@1 {own['hits@1']:.3f}; counts of train alone: MRR "
        f"{counts['mrr']:.4f}"
    )


def _triples(found: Mapping[str, Any]) -> str:
    return (
        f"accuracy {found['accuracy']:.4f}, ROC-AUC {found['roc_auc']:.4f} against "
        f"{found['negatives']} negatives"
    )


def _paths(found: Mapping[str, Any]) -> str:
    parts = (("that need held-out edges", "held-out"), ("that train contains", "train"))
    return "; ".join(
        f"MRR {found[part]['all']['mrr']['value']:.4f} of answers {text}"
        for text, part in parts
        if part in found
    )


def _walks(found: Mapping[str, Any]) -> str:
    rows = {row["by"]: row for row in found["perplexity"] if row["steps"] == "all"}
    return ", ".join(f"{name} {row['both']:.2f}" for name, row in rows.items())


# Task → question, the kind of its file, and the line of figures.
TASKS: Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], str]]] = {
    "relations": ("Which relation holds between two entities?", "relations.json", _relations),
    "triples": ("Is a triple true? (classification, calibration)", "triples.json", _triples),
    "paths": ("Where does a path of several relations lead?", "paths.json", _paths),
    "walks": ("Perplexity of held-out walks", "walks.json", _walks),
}


def tasks_of(files: Mapping[str, Path], config: Config, command: str) -> list[Task]:
    """The tasks that a run can do.

    Args:
        files: kind of `TASKS` → file, of those that can be evaluated.
        config: the run's configuration.
        command: the command that evaluates link prediction; `--task` is added.

    Raises:
        RunError: if a file is damaged.
    """
    walks = bool(config.one_path and config.one_path.walk_ratio)
    return [
        Task(question, f"{command} --task {name}", _read(files[kind], figures))
        for name, (question, kind, figures) in TASKS.items()
        if kind in files and (name != "walks" or walks)
    ]


def _read(file: Path, figures: Callable[[Mapping[str, Any]], str]) -> str | None:
    if not file.is_file():
        return None
    try:
        return figures(read_json(file))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: invalid content. Remedy: evaluate the task again.") from error
