"""Training passes on a node budget, compared with full passes: time, and recall of answers.

Each row measures forward and backward passes of the same heads, with targets and loss. The recall
is the share of valid's answers, on both sides, among the entities that a pass reaches. The model is
untrained, so the budget keeps the entities of a plain random walk. The model cannot score other
entities.

    python -m benchmarks.budget --data FB15k-237.tar.gz --node-budget 100 350 1000
    python -m benchmarks.budget --synthetic --entities 1000000 --triples 4000000 --relations 800
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Import first: kgtool must be imported before torch.
from benchmarks import common, scale

# isort: split
import torch

from kgtool.config import AllPathsConfig
from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.model import AllPathsModel
from kgtool.ops import in_threads
from kgtool.training.batches import PassBatch
from kgtool.training.objectives import AllPathsObjective

# Full passes of a large graph take seconds and a row per entity, so a few must do.
WHOLE_HEADS = 4


@dataclass(frozen=True)
class Passes:
    """The measurements of passes on a node budget, or of full passes.

    Attributes:
        most: the budget, new entities per step; 0 for full passes.
        seconds: time per head in training.
        entities: mean number of entities that a pass reaches.
        recall: share of the answers among them.
    """

    most: int
    seconds: float
    entities: float
    recall: float


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=32, help="d (%(default)s)")
    parser.add_argument("--layers", type=common.positive, default=3, help="L (%(default)s)")
    parser.add_argument(
        "--heads", type=common.positive, default=64, help="timed heads (%(default)s)"
    )
    parser.add_argument(
        "--node-budget", type=common.positive, nargs="+", default=[250, 1000, 4000], metavar="N",
        help="budgets (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--queries", type=common.positive, default=500, help="queries from valid (%(default)s)"
    )
    return parser


def measure(args: argparse.Namespace, data: KGDataset) -> list[Passes]:
    """Measure full passes, and passes on each budget."""
    graph = KnowledgeGraph.from_dataset(data)
    answers = answer_index(data.train, data.num_relations)
    queries = with_inverses(data.valid, data.num_relations)
    sample = torch.randperm(len(queries), generator=torch.Generator().manual_seed(args.seed))
    queries = queries[sample[: args.queries]]
    return [
        Passes(most, _seconds(args, most, graph, answers), *_recall(args, most, graph, queries))
        for most in (0, *args.node_budget)
    ]


def summary(folder: Path, triples: int) -> list[common.Row]:
    """The row for a generated graph."""
    common.as_in_training()
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3", "--node-budget", "1000"])
    data = common.dataset(args)
    whole, budgeted = measure(args, data)
    return [
        common.Row(
            f"passes of at most {budgeted.most:,} entities a step, among {data.num_entities:,}",
            f"{1 / budgeted.seconds:.1f} heads a second",
            f"full passes: {1 / whole.seconds:.1f}",
            f"{whole.seconds / budgeted.seconds:.1f} times as fast",
        )
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print the table, and return the exit status."""
    args = arguments().parse_args(argv)
    data = common.dataset(args)
    common.describe(data)
    measured = measure(args, data)
    rows = [
        [f"{one.most:,}" if one.most else "none", f"{1e3 * one.seconds:.1f}",
         f"{1 / one.seconds:.1f}", f"{measured[0].seconds / one.seconds:.1f}",
         f"{one.entities:,.0f}", f"{100 * one.recall:.1f}"]
        for one in measured
    ]  # fmt: skip
    common.print_table(
        f"{args.layers} layers, {args.dim} dims, 8 heads a batch",
        ["budget", "ms a head", "heads a second", "times as fast", "entities reached",
         "recall, %"],
        rows,
    )  # fmt: skip
    return 0


def _decoder(args: argparse.Namespace, most: int, graph: KnowledgeGraph) -> AllPathsDecoder:
    torch.manual_seed(args.seed)
    return AllPathsDecoder(graph.num_relation_ids // 2, args.dim, args.layers, 64, most)


def _seconds(
    args: argparse.Namespace, most: int, graph: KnowledgeGraph, answers: AnswerIndex
) -> float:
    """The seconds of a head's pass in training."""
    decoder = _decoder(args, most, graph)
    settings = AllPathsConfig(layers=args.layers, node_budget=most)
    objective = AllPathsObjective(settings, AllPathsModel(decoder, graph), answers)
    heads = objective.order(args.seed, 0)[: args.heads if most else WHOLE_HEADS]
    parameters = list(decoder.parameters())

    def part_of(part: PassBatch) -> None:
        loss, _ = objective.loss(part)
        torch.autograd.grad(loss, parameters)

    def passes() -> None:
        for batch in heads.split(8):
            in_threads(part_of, objective.parts(batch))

    return common.median_seconds(passes, args.repeats)[0] / len(heads)


@torch.no_grad()
def _recall(
    args: argparse.Namespace, most: int, graph: KnowledgeGraph, queries: torch.Tensor
) -> tuple[float, float]:
    """The mean number of entities that a pass reaches, and the share of answers among them."""
    decoder = _decoder(args, most, graph)
    heads, position = torch.unique(queries[:, 0], return_inverse=True)
    order = torch.argsort(position)
    first = torch.searchsorted(position[order], torch.arange(len(heads) + 1))
    rows, hits = 0, 0
    for start in range(0, len(heads), 8):
        batch = heads[start : start + 8]
        reached = decoder.reach(graph, batch)
        if most:
            decoder(reached)
        rows += sum(reached.rows_of_heads())
        rows_of_batch = order[first[start] : first[min(start + 8, len(heads))]]
        slot = reached.slot_of(position[rows_of_batch] - start, queries[rows_of_batch, 2])
        hits += int((slot < graph.num_entities).sum())
    return rows / len(heads), hits / len(queries)


if __name__ == "__main__":
    raise SystemExit(main())
