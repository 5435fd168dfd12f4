"""Reads the result files of `kgtool evaluate` for the report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.errors import DataError, RunError
from kgtool.evaluation.analysis.breakdown import COLUMNS
from kgtool.evaluation.analysis.rank_table import TRIPLE
from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import POLICIES
from kgtool.storage.files import read_json
from kgtool.storage.tables import load_table

# The files of an evaluation, as kind and ending. The last one is optional.
KINDS = ("metrics.json", "breakdown.tsv", "ranks.tsv", "calibration.tsv")
CALIBRATION = ("probability", "observed", "count", "low", "high")
_RANK_NUMBERS = ("rank", "optimistic", "pessimistic", "candidates", "score")


@dataclass(frozen=True, eq=False)
class Stored:
    """An evaluation, read from its files.

    Attributes:
        metrics: of `metrics.json`, see `kgtool.evaluation.evaluator.Evaluation.to_dict`.
        breakdown: see `kgtool.evaluation.analysis.breakdown`.
        ranks: see `kgtool.evaluation.analysis.rank_table`.
        calibration: a row per bin of predicted probability: `probability` (mean), `observed` (share
            of true answers) with its interval `low`, `high`, and `count`; None without the file.
    """

    metrics: Mapping[str, Any]
    breakdown: pd.DataFrame
    ranks: pd.DataFrame
    calibration: pd.DataFrame | None

    @property
    def hits(self) -> tuple[int, ...]:
        """The k of Hits@k."""
        names = self.metrics["both"]["realistic"]
        return tuple(int(name[5:]) for name in names if name.startswith("hits@"))

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each further run of the ensemble."""
        return tuple(float(added["weight"]) for added in self.metrics.get("with", ()))


def read_stored(
    files: Mapping[str, Path], dataset: KGDataset, command: str, added: int = 0
) -> Stored:
    """Read the files of an evaluation.

    Args:
        files: kind of `KINDS` → file.
        dataset: the data that they must belong to.
        command: the command that makes them, for the remedy.
        added: number of further runs of the ensemble.

    Raises:
        RunError: if a file is missing, damaged, or belongs to other data.
    """
    metrics_file, breakdown_file, ranks_file, calibration_file = (files[kind] for kind in KINDS)
    for file in (metrics_file, breakdown_file, ranks_file):
        if not file.is_file():
            raise RunError(f"{file}: no such file. Remedy: run `{command}` first.")
    metrics = read_json(metrics_file)
    try:
        names = _names(metrics)
        fingerprint, queries = metrics["dataset"]["fingerprint"], metrics["counts"]["queries"]
        weights = [other["weight"] for other in metrics.get("with", ())]
        whole = len(weights) == added and all(map(_is_number, weights))
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise RunError(f"{metrics_file}: invalid content. Remedy: run `{command}` again.")
    if fingerprint != dataset.fingerprint:
        raise RunError(f"{metrics_file} belongs to other data. Remedy: run `{command}` again.")
    breakdown = _table(breakdown_file, COLUMNS[:-1], ("value", "queries"), command)
    # Evaluations by earlier versions have no notes.
    breakdown["note"] = breakdown["note"].fillna("") if "note" in breakdown else ""
    ends = breakdown[["low", "high"]].apply(pd.to_numeric, errors="coerce")
    breakdown[["low", "high"]] = ends.where(np.isfinite(ends))
    main = breakdown[(breakdown["filter"] == "filtered") & (breakdown["ties"] == "realistic")]
    present = set(zip(*(main[name] for name in ("by", "group", "side", "metric")), strict=True))
    groups = {(by, group, side) for by, group, one, _ in present for side in (one, "both")}
    wanted = {(*g, name) for g in groups for name in (names if g[2] == "both" else ["mrr"])}
    if not wanted <= present:
        by, group, side, name = min(wanted - present)
        raise RunError(
            f"{breakdown_file}: no {name} of {by} {group!r}, side {side}. Remedy: run `{command}` "
            "again."
        )
    ranks = _table(ranks_file, (*TRIPLE, "side", *_RANK_NUMBERS), _RANK_NUMBERS, command)
    if len(ranks) != queries:
        raise RunError(
            f"{ranks_file} has {len(ranks)} queries, but {metrics_file.name} has {queries}. "
            f"Remedy: run `{command}` again."
        )
    calibration = None
    if calibration_file.is_file():
        calibration = _table(calibration_file, CALIBRATION, CALIBRATION, command)
    return Stored(metrics, breakdown, ranks, calibration)


def _is_number(value: object) -> bool:
    # A JSON integer may be larger than the largest float.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _names(metrics: Any) -> list[str]:
    """The names of MRR and Hits@k, if the metrics are complete.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: for incomplete or invalid metrics.
    """
    names = ["mrr", *(name for name in metrics["both"]["realistic"] if name.startswith("hits@"))]
    needed = [*names, "mr", "gmr", "amr", "amri"]
    parts = [metrics, metrics["raw"], *([metrics["seen"]] if metrics.get("seen") else [])]
    cells = [part[side][ties][name] for part in parts for side in SIDES for ties in POLICIES
             for name in needed]  # fmt: skip
    cells += [metrics["sampled"][name] for name in names]
    counts = [metrics["counts"][name] for name in ("queries", "entities", "unseen_triples")]
    if not all(map(_is_number, cells)) or not all(type(count) is int for count in counts):
        raise ValueError("no number")
    if metrics["split"] not in SPLITS or not all(name[5:].isdecimal() for name in names[1:]):
        raise ValueError("no split, or no cut-off")
    return names


def _table(
    file: Path, columns: Sequence[str], numbers: Sequence[str], command: str
) -> pd.DataFrame:
    try:
        frame = load_table(file)
    except DataError as error:
        raise RunError(str(error)) from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise RunError(f"{file}: no column {', '.join(missing)}. Remedy: run `{command}` again.")
    for name in numbers:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
        unfit = ~np.isfinite(frame[name].to_numpy(dtype=np.float64))
        if unfit.any():
            line = int(unfit.argmax()) + 2
            raise RunError(
                f"{file}, line {line}: the {name} is not a number. Remedy: run `{command}` again."
            )
    return frame
