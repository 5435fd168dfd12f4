"""Results of evaluations: one contract for all tasks, with the files that hold the results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd

from kgtool.data.dataset import KGDataset
from kgtool.evaluation.analysis.breakdown import breakdown, groupings, ranked_queries
from kgtool.evaluation.analysis.rank_table import ranks_frame
from kgtool.evaluation.evaluator import Evaluation
from kgtool.evaluation.metrics import Grouping
from kgtool.evaluation.tasks.path_evaluator import PathEvaluation
from kgtool.evaluation.tasks.relation_prediction import RelationEvaluation
from kgtool.evaluation.tasks.triple_classification import TripleEvaluation
from kgtool.evaluation.tasks.walk_perplexity import WalkPerplexity
from kgtool.storage.files import write_json
from kgtool.storage.tables import save_table


class Evaluated(Protocol):
    """The metrics of a split."""

    @property
    def split(self) -> str:
        """The name of the split."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        ...


E = TypeVar("E", bound=Evaluated)


@dataclass(frozen=True, eq=False, repr=False)
class Result(ABC, Generic[E]):
    """The result of a task: an evaluation with its tables and files.

    Attributes:
        evaluation: the metrics and what they are computed from.
        dataset: the data.
        about: JSON-ready description of model, data and settings.
        metrics_file: the JSON file that `write` writes.
        table_files: the files of tables that `write` writes, by the name of the table.
    """

    evaluation: E
    dataset: KGDataset
    about: Mapping[str, Any]
    metrics_file: Path
    table_files: Mapping[str, Path]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.dataset.name!r}, {self.evaluation.split!r}, "
            f"{str(self.metrics_file)!r})"
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that `write` writes: the JSON file first, then the tables."""
        return (self.metrics_file, *self.table_files.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the metrics, then `about`."""
        return self.evaluation.to_dict() | dict(self.about)

    @abstractmethod
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""

    def write(self) -> None:
        """Write the JSON file and the tables; each file completely or not at all.

        Raises:
            KGToolError: if a file cannot be written.
        """
        tables = self.tables()
        for name, file in self.table_files.items():
            save_table(tables[name], file)
        write_json(self.metrics_file, self.to_dict())


class LinkResult(Result[Evaluation]):
    """The result of link prediction, with the tables `breakdown` and `ranks`."""

    @property
    def mrr(self) -> float:
        """The filtered, realistic MRR over both sides: the number that papers report."""
        return self.evaluation.mrr

    @cached_property
    def groups(self) -> dict[str, Grouping]:
        """The groupings of the breakdown, see `kgtool.evaluation.analysis.breakdown.groupings`."""
        return groupings(self.dataset, self.evaluation.queries, self.about.get("layers"))

    @cached_property
    def breakdown(self) -> pd.DataFrame:
        """Metrics by group, side and tie policy with their intervals, see
        `kgtool.evaluation.analysis.breakdown`."""
        return breakdown(ranked_queries(self.evaluation), self.groups, self.evaluation.hits)

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """A row per query, see `kgtool.evaluation.analysis.rank_table`."""
        return ranks_frame(self.evaluation, self.groups, self.dataset.vocabulary)

    def tables(self) -> dict[str, pd.DataFrame]:
        """`breakdown` and `ranks`."""
        return {"breakdown": self.breakdown, "ranks": self.ranks}


class RelationResult(Result[RelationEvaluation]):
    """The result of relation prediction, with the table `relations`."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """`relations`: a row per triple, see `RelationEvaluation.ranks`."""
        return {"relations": self.evaluation.ranks(self.dataset.vocabulary)}


class TripleResult(Result[TripleEvaluation]):
    """The result of triple classification, with the tables `calibration` and `triples`."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """`calibration`: a row per bin of probability; `triples`: a row per triple."""
        return {
            "calibration": self.evaluation.calibration,
            "triples": self.evaluation.predictions(self.dataset.vocabulary),
        }


class PathResult(Result[PathEvaluation]):
    """The result of path queries, with the table `paths`."""

    @property
    def table(self) -> pd.DataFrame:
        """A row per metric, part and length, see `kgtool.evaluation.tasks.path_evaluator`."""
        return self.evaluation.table

    def tables(self) -> dict[str, pd.DataFrame]:
        """`paths`: a row per metric, part and length."""
        return {"paths": self.table}


class WalkResult(Result[WalkPerplexity]):
    """The result of walks, with the table `perplexity`; only the JSON file holds it."""

    @property
    def table(self) -> pd.DataFrame:
        """A row per set of steps and predictor, see `WalkPerplexity`."""
        return self.evaluation.table

    def tables(self) -> dict[str, pd.DataFrame]:
        """`perplexity`: a row per set of steps and predictor."""
        return {"perplexity": self.table}
