"""Results of an evaluation: the metrics, the breakdown and the ranks, each in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from kgtool.data.dataset import KGDataset
from kgtool.evaluation.analysis.breakdown import breakdown, groupings, ranked_queries
from kgtool.evaluation.analysis.rank_table import ranks_frame
from kgtool.evaluation.evaluator import Evaluation
from kgtool.evaluation.metrics import Grouping
from kgtool.evaluation.tasks.path_evaluator import PathEvaluation
from kgtool.storage.files import write_json
from kgtool.storage.tables import save_table


@dataclass(frozen=True, eq=False)
class Results:
    """An evaluation with its tables.

    Attributes:
        evaluation: the ranks and their metrics.
        dataset: the data.
        about: JSON-ready description of model and data.
        metrics_file, breakdown_file, ranks_file: the files that `write` writes.
    """

    evaluation: Evaluation
    dataset: KGDataset
    about: Mapping[str, Any]
    metrics_file: Path
    breakdown_file: Path
    ranks_file: Path

    @property
    def mrr(self) -> float:
        """The filtered, realistic MRR over both sides: the number that papers report."""
        return self.evaluation.mrr

    @cached_property
    def groups(self) -> dict[str, Grouping]:
        """The groupings of the breakdown, see `kgtool.evaluation.analysis.breakdown.groupings`."""
        return groupings(self.dataset, self.evaluation.queries)

    @cached_property
    def breakdown(self) -> pd.DataFrame:
        """Metrics by group, side and tie policy with their intervals, see
        `kgtool.evaluation.analysis.breakdown`."""
        return breakdown(ranked_queries(self.evaluation), self.groups, self.evaluation.hits)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """A row per query, see `kgtool.evaluation.analysis.rank_table`."""
        return ranks_frame(self.evaluation, self.groups, self.dataset.vocabulary)

    def write(self) -> None:
        """Write the three files.

        Raises:
            KGToolError: if a file cannot be written.
        """
        save_table(self.ranks, self.ranks_file)
        save_table(self.breakdown, self.breakdown_file)
        write_json(self.metrics_file, self.evaluation.to_dict() | dict(self.about))


@dataclass(frozen=True, eq=False)
class PathResults:
    """An evaluation of path queries with its files.

    Attributes:
        evaluation: the ranks and their metrics.
        composed: whether the model answered step by step, not the path as a whole.
        about: JSON-ready description of model, data and queries.
        table_file, metrics_file: the files that `write` writes.
    """

    evaluation: PathEvaluation
    composed: bool
    about: Mapping[str, Any]
    table_file: Path
    metrics_file: Path

    @property
    def table(self) -> pd.DataFrame:
        """A row per metric, part and length, see `kgtool.evaluation.tasks.path_evaluator`."""
        return self.evaluation.table

    def write(self) -> None:
        """Write the two files.

        Raises:
            KGToolError: if a file cannot be written.
        """
        save_table(self.table, self.table_file)
        how = "steps composed" if self.composed else "path read"
        metrics = self.evaluation.to_dict() | {"answered": how} | dict(self.about)
        write_json(self.metrics_file, metrics)
