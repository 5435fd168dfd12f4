"""What the figures of an evaluation say: baselines, a verdict, and where not to trust the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kgtool.data.dataset import KGDataset
from kgtool.evaluation.analysis.breakdown import REACHED, RankedQueries, ranked_queries
from kgtool.evaluation.analysis.significance import BETTER, compare
from kgtool.evaluation.baselines import BASELINES
from kgtool.evaluation.evaluator import Evaluation, evaluate_model
from kgtool.evaluation.metrics import POLICIES, Metrics
from kgtool.report.cases import queries_of
from kgtool.report.names import Names
from kgtool.report.stored import Stored
from kgtool.report.tables import Group, groups_of

CHEAP = ("frequency", "inverse")  # baselines that a report computes itself
MOST_SCORES = 10**9  # of a baseline that is computed: about 20 seconds of one core
FEW_QUERIES = 10  # of a group whose figures say little
MOST_WEAK = 8
# Baseline → what it does.
MEANING = {
    "frequency": "the entities that train has most often on that side of the relation",
    "inverse": "edges of other relations between the two entities, then frequency",
}
# Grouping → the questions of a group, for a reader who has not seen the breakdowns.
WEAK = {
    "relation": "relation {}",
    "degree": "answers with {} train triples",
    "distance": "edges of the shortest path in train: {}",
    "half_links": "",  # see `HALF_LINKS`
    "entities": "entities in train: {}",
    "reach": "answers that {}",
}
HALF_LINKS = {
    "answer only": "no edge of the relation in train at the question’s entity",
    "question only": "no edge of the relation in train at the answer",
    "neither": "no edge of the relation in train at the question’s entity or the answer",
}


@dataclass(frozen=True)
class Baseline:
    """A baseline's metrics on the queries of the run.

    Attributes:
        name, meaning: the baseline.
        metrics: filtered, both sides, realistic ties.
        verdict: whether the run's MRR is better, worse, or not significantly different.
    """

    name: str
    meaning: str
    metrics: Metrics
    verdict: str


@dataclass(frozen=True)
class Weakness:
    """A group of queries with a lower MRR than all queries.

    Attributes:
        by: the grouping, a key of `WEAK`.
        group: the group's name.
        queries: number of queries.
        mrr, low, high: filtered MRR with realistic ties, and its 95 % interval.
    """

    by: str
    group: str
    queries: int
    mrr: float
    low: float
    high: float

    def where(self, names: Names) -> str:
        """The questions of the group, in words."""
        if self.by == "half_links":
            return HALF_LINKS.get(self.group, self.group)
        return WEAK[self.by].format(names(self.group) if self.by == "relation" else self.group)


def baselines_of_report(
    dataset: KGDataset, split: str, stored: Stored, progress: bool = False
) -> list[Baseline]:
    """The baselines of `CHEAP`, compared with the run; none where they would take long.

    Args:
        dataset: the data.
        split: the evaluated split.
        stored: the run's evaluation, whose queries are in the order of `evaluate`.
        progress: show a progress bar.
    """
    queries = 2 * len(dataset.split(split))
    if queries * dataset.num_entities > MOST_SCORES or len(stored.ranks) != queries:
        return []
    found: dict[str, Evaluation] = {
        name: evaluate_model(
            BASELINES[name](dataset), dataset, split, progress=progress, hits=stored.hits
        )
        for name in CHEAP
    }
    # The comparison pairs the ranks by their order.
    if not torch.equal(queries_of(stored.ranks, dataset), found[CHEAP[0]].queries):
        return []
    return [
        Baseline(
            name, MEANING[name], evaluation.filtered["both"]["realistic"],
            _verdict(stored, evaluation),
        )
        for name, evaluation in found.items()
    ]  # fmt: skip


def _verdict(stored: Stored, baseline: Evaluation) -> str:
    """Whether the run is better than a baseline, by the paired bootstrap."""
    other = ranked_queries(baseline)
    own = RankedQueries(
        other.triple, other.head_side,
        {POLICIES[0]: torch.tensor(stored.ranks["rank"].to_numpy(dtype="float64"))},
        {}, other.candidates, other.raw_candidates,
    )  # fmt: skip
    table = compare({"baseline": other, "run": own}, {}, stored.hits)
    row = table[
        (table["by"] == "all") & (table["side"] == "both")
        & (table["metric"] == "mrr") & (table["run"] == "run")
    ]  # fmt: skip
    return str(row["verdict"].iloc[0])


def summary(stored: Stored, name: str, baselines: Sequence[Baseline]) -> list[str]:
    """What the figures say, in plain sentences.

    Args:
        stored: the run's evaluation.
        name: readable name of the data.
        baselines: of `baselines_of_report`.
    """
    both, counts = stored.metrics["both"]["realistic"], stored.metrics["counts"]
    first, most = min(stored.hits), max(stored.hits)
    text = (
        f"For {_share(both[f'hits@{first}'])} of the {counts['queries']:,} questions about "
        f"{stored.metrics['split']} triples of {name}, the right answer "
        f"{_among(first)} of {counts['entities']:,} entities"
    )
    if most > first:
        text += f", and for {_share(both[f'hits@{most}'])} {_among(most)}"
    return [f"{text}.", *_against(baselines)]


def _among(k: int) -> str:
    return "is the first" if k == 1 else f"is among the first {k}"


def _share(value: float) -> str:
    """A share as text; never 0 % or 100 % unless it is all or none."""
    if value in (0, 1):
        return "none" if value == 0 else "all"
    percent = f"{100 * value:.1f}"
    if percent == "100.0":
        return "more than 99.9 %"
    return "less than 0.1 %" if percent == "0.0" else f"{percent} %"


def _against(baselines: Sequence[Baseline]) -> list[str]:
    if not baselines:
        return []
    best = max(baselines, key=lambda each: each.metrics["mrr"])
    mrr = f"MRR {best.metrics['mrr']:.3f}"
    if all(each.verdict == BETTER for each in baselines):
        return [f"The run is better than the best baseline here, {best.name} ({mrr})."]
    rivals = [each for each in baselines if each.verdict != BETTER]
    best = max(rivals, key=lambda each: each.metrics["mrr"])
    mrr = f"MRR {best.metrics['mrr']:.3f}"
    verb = "is worse than" if best.verdict == "worse" else "is not significantly better than"
    return [
        f"The run {verb} the baseline {best.name} ({mrr}), which learns nothing. Do not rely on "
        "its predictions."
    ]


def weaknesses(stored: Stored) -> list[Weakness]:
    """The groups of queries whose MRR is lower than that of all queries, the lowest first.

    Only groups of at least `FEW_QUERIES` queries are named, and only where the interval of the
    group's MRR is below the MRR of all queries. Relations are at most half of them.
    """
    overall = stored.metrics["both"]["realistic"]["mrr"]
    found = [
        Weakness(by, group.name, group.queries["both"],
                 group.metrics["both"]["mrr"], group.low["both"], group.high["both"])
        for by in WEAK
        for group in groups_of(stored.breakdown, by)
        if _is_weak(group, overall) and group.name != REACHED
    ]  # fmt: skip
    found.sort(key=lambda each: each.mrr)
    relations = [each for each in found if each.by == "relation"][: MOST_WEAK // 2]
    others = [each for each in found if each.by != "relation"][: MOST_WEAK - len(relations)]
    return sorted([*relations, *others], key=lambda each: each.mrr)


def _is_weak(group: Group, overall: float) -> bool:
    return group.queries["both"] >= FEW_QUERIES and group.high["both"] < overall


def small_relations(stored: Stored) -> int:
    """The number of relations with fewer than `FEW_QUERIES` queries, whose figures say little."""
    return sum(
        group.queries["both"] < FEW_QUERIES for group in groups_of(stored.breakdown, "relation")
    )
