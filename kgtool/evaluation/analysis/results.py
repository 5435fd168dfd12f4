"""Results of evaluations: one contract for all tasks, with the files that hold the results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pandas as pd

from kgtool.data.dataset import KGDataset
from kgtool.display import html
from kgtool.evaluation.analysis.breakdown import breakdown, groupings, ranked_queries
from kgtool.evaluation.analysis.rank_table import ranks_frame
from kgtool.evaluation.evaluator import Evaluation
from kgtool.evaluation.metrics import Grouping, in_short
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
T = TypeVar("T", PathEvaluation, WalkPerplexity)


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

    _TITLE: ClassVar[str] = ""
    evaluation: E
    dataset: KGDataset
    about: Mapping[str, Any]
    metrics_file: Path
    table_files: Mapping[str, Path]

    def __repr__(self) -> str:
        short = f"{short}, " if (short := self._in_short()) else ""
        return (
            f"{type(self).__name__}({self.dataset.name!r}, {self.evaluation.split!r}, {short}"
            f"{str(self.metrics_file)!r})"
        )

    def _repr_html_(self) -> str:
        title = f"{self._TITLE}: {self.evaluation.split} of {self.dataset.name}"
        return html(title, self.to_frame(), {"written to": self.metrics_file})

    def _in_short(self) -> str:
        """The main metrics in a line."""
        return ""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The metrics as a table."""

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

    _TITLE = "Link prediction"

    def _in_short(self) -> str:
        return in_short(self.evaluation.filtered["both"]["realistic"])

    def to_frame(self) -> pd.DataFrame:
        """The metrics: a row per side and tie policy, filtered, then a row of raw ranks."""
        return self.evaluation.to_frame()

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

    _TITLE = "Relation prediction"

    def _in_short(self) -> str:
        return in_short(self.evaluation.filtered["realistic"])

    def to_frame(self) -> pd.DataFrame:
        """The metrics: a row per tie policy, filtered, and rows of raw ranks and of the counts."""
        found = self.evaluation
        rows = [(f"filtered, {ties}", metrics) for ties, metrics in found.filtered.items()]
        rows += [("raw", found.raw["realistic"]), ("counts alone", found.counted["realistic"])]
        return pd.DataFrame([{"ranks": name, **metrics} for name, metrics in rows])

    def tables(self) -> dict[str, pd.DataFrame]:
        """`relations`: a row per triple, see `RelationEvaluation.ranks`."""
        return {"relations": self.evaluation.ranks(self.dataset.vocabulary)}


class TripleResult(Result[TripleEvaluation]):
    """The result of triple classification, with the tables `calibration` and `triples`."""

    _TITLE = "Triple classification"

    def _in_short(self) -> str:
        return f"accuracy {self.evaluation.metrics['accuracy']:.3f}"

    def to_frame(self) -> pd.DataFrame:
        """The metrics: one row."""
        return pd.DataFrame([{"negatives": self.evaluation.negatives, **self.evaluation.metrics}])

    def tables(self) -> dict[str, pd.DataFrame]:
        """`calibration`: a row per bin of probability; `triples`: a row per triple."""
        return {
            "calibration": self.evaluation.calibration,
            "triples": self.evaluation.predictions(self.dataset.vocabulary),
        }


class _OneTable(Result[T]):
    """The result of a task whose metrics are one table."""

    _TABLE: ClassVar[str]

    @property
    def table(self) -> pd.DataFrame:
        """The table of the evaluation, which has its columns."""
        return self.evaluation.table

    def to_frame(self) -> pd.DataFrame:
        """The metrics: the table."""
        return self.table

    def tables(self) -> dict[str, pd.DataFrame]:
        """The table by its name."""
        return {self._TABLE: self.table}


class PathResult(_OneTable[PathEvaluation]):
    """The result of path queries, with the table `paths`: a row per metric, part and length."""

    _TITLE, _TABLE = "Path queries", "paths"


class WalkResult(_OneTable[WalkPerplexity]):
    """The result of walks, with the table `perplexity`; only the JSON file holds it.

    The table has a row per set of steps and predictor.
    """

    _TITLE, _TABLE = "Perplexity of walks", "perplexity"
