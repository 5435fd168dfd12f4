"""Training's passes on a budget, beside whole ones: time, and what they keep of the answers.

Each row is forward and backward passes of the same heads with their targets and loss. "Answers
kept" is the share of valid's answers that passes of an untrained model keep, both sides: what a
plain random walk keeps. A score can only tell those from the others.

    python -m benchmarks.budget --data FB15k-237.tar.gz --max-entities 100 350 1000
    python -m benchmarks.budget --synthetic --entities 1000000 --triples 4000000 --relations 800
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# First: kgtool is to be imported before torch.
from benchmarks import common, scale

# isort: split
import torch

from kgtool.config import AllPathsConfig
from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.model import PathModel
from kgtool.ops import in_threads
from kgtool.training.objectives import AllPathsObjective

# Whole passes of a large graph take seconds and a row an entity: few do.
WHOLE_HEADS = 4


@dataclass(frozen=True)
class Passes:
    """Passes on a budget, 0 for whole ones.

    Attributes:
        most: entities a step.
        seconds: a head, in training.
        kept: entities that an answering pass keeps, in the mean.
        share: of the answers asked for, those kept.
    """

    most: int
    seconds: float
    kept: float
    share: float


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=32, help="d (%(default)s)")
    parser.add_argument("--steps", type=common.positive, default=3, help="L (%(default)s)")
    parser.add_argument("--heads", type=common.positive, default=64, help="timed (%(default)s)")
    parser.add_argument(
        "--max-entities", type=common.positive, nargs="+", default=[250, 1000, 4000], metavar="N",
        help="budgets (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--queries", type=common.positive, default=500, help="of valid (%(default)s)"
    )
    return parser


def measure(args: argparse.Namespace, data: KGDataset) -> list[Passes]:
    """Whole passes, and those of each budget."""
    graph = KnowledgeGraph.from_dataset(data)
    answers = answer_index(data.train, data.num_relations)
    asked = with_inverses(data.valid, data.num_relations)
    drawn = torch.randperm(len(asked), generator=torch.Generator().manual_seed(args.seed))
    asked = asked[drawn[: args.queries]]
    return [
        Passes(most, _seconds(args, most, graph, answers), *_kept(args, most, graph, asked))
        for most in (0, *args.max_entities)
    ]


def summary(folder: Path, triples: int) -> list[common.Row]:
    """Of a generated graph."""
    common.as_in_training()
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3", "--max-entities", "1000"])
    data = common.dataset(args)
    whole, budgeted = measure(args, data)
    return [
        common.Row(
            f"passes of at most {budgeted.most:,} entities a step, among {data.num_entities:,}",
            f"{1 / budgeted.seconds:.1f} heads a second",
            f"whole passes: {1 / whole.seconds:.1f}",
            f"{whole.seconds / budgeted.seconds:.1f} times as fast",
        )
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, time, and return the exit status."""
    args = arguments().parse_args(argv)
    data = common.dataset(args)
    common.describe(data)
    found = measure(args, data)
    rows = [
        [f"{one.most:,}" if one.most else "none", f"{1e3 * one.seconds:.1f}",
         f"{1 / one.seconds:.1f}", f"{found[0].seconds / one.seconds:.1f}", f"{one.kept:,.0f}",
         f"{100 * one.share:.1f}"]
        for one in found
    ]  # fmt: skip
    common.print_table(
        f"{args.steps} steps, {args.dim} dims, 8 heads a batch",
        ["budget", "ms a head", "heads a second", "times as fast", "entities kept",
         "answers kept, %"],
        rows,
    )  # fmt: skip
    return 0


def _decoder(args: argparse.Namespace, most: int, graph: KnowledgeGraph) -> AllPathsDecoder:
    torch.manual_seed(args.seed)
    return AllPathsDecoder(graph.num_relation_ids // 2, args.dim, args.steps, 64, most)


def _seconds(
    args: argparse.Namespace, most: int, graph: KnowledgeGraph, answers: AnswerIndex
) -> float:
    """Of a head's pass in training."""
    decoder = _decoder(args, most, graph)
    settings = AllPathsConfig(steps=args.steps, max_entities=most)
    objective = AllPathsObjective(settings, PathModel(decoder, graph), answers)
    heads = objective.order(args.seed, 0)[: args.heads if most else WHOLE_HEADS]
    parameters = list(decoder.parameters())

    def part_of(part: tuple[torch.Tensor, int]) -> None:
        loss, _ = objective.loss(part)
        torch.autograd.grad(loss, parameters)

    def passes() -> None:
        for batch in heads.split(8):
            in_threads(part_of, objective.parts(batch))

    return common.median_seconds(passes, args.repeats)[0] / len(heads)


@torch.no_grad()
def _kept(
    args: argparse.Namespace, most: int, graph: KnowledgeGraph, asked: torch.Tensor
) -> tuple[float, float]:
    """How many entities an answering pass keeps, and which share of the answers asked for."""
    decoder = _decoder(args, most, graph)
    heads, position = torch.unique(asked[:, 0], return_inverse=True)
    order = torch.argsort(position)
    first = torch.searchsorted(position[order], torch.arange(len(heads) + 1))
    rows, hits = 0, 0
    for start in range(0, len(heads), 8):
        batch = heads[start : start + 8]
        reached = decoder.reach(graph, batch)
        if most:
            decoder(reached)
        rows += sum(reached.rows_of_heads())
        mine = order[first[start] : first[min(start + 8, len(heads))]]
        slot = reached.slot_of(position[mine] - start, asked[mine, 2])
        hits += int((slot < graph.num_entities).sum())
    return rows / len(heads), hits / len(asked)


if __name__ == "__main__":
    raise SystemExit(main())
