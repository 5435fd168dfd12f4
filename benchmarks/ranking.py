"""Evaluation: both sides, filtered and raw, every tie policy, against the bare matrix products.

The states are small whole numbers, so that a score is exact in float32 in whatever chunk it is
made, and some scores tie: ranks can be compared one by one. Three ways to score are timed: the
product of head and relation states (DistMult), the GRU decoder of `kgtool train`, and the bare
products alone, which multiply ready queries with the candidates into a reused buffer. Beside them
stands the whole of `kgtool evaluate`, breakdowns, intervals and files.

    python -m benchmarks.ranking --data FB15k-237.tar.gz --pykeen
    python -m benchmarks.ranking --data datasets/families --pykeen --pykeen-triples 200
    python -m benchmarks.ranking --synthetic --entities 1000000 --held-out 1000 --dim 64
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

# First: kgtool is to be imported before torch.
from benchmarks import common, scale
from benchmarks.common import console, megabytes

# isort: split
import torch
from torch import Tensor, nn

from kgtool import Evaluation, KGDataset, evaluate_model
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import invert
from kgtool.evaluation.analysis.results import Results
from kgtool.evaluation.candidates import Sampled
from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import POLICIES
from kgtool.evaluation.ranking import Ranks, block_shape, rank_tails
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.scorers import Scorer

LONG = 20_000  # entities
SAMPLED = 500  # candidates
LARGEST_STATE = 8  # 8³ · 256 dims < 2²⁴: every score is exact in float32

# Our name of a metric → PyKEEN's.
PYKEEN_NAMES = {
    "mrr": "inverse_harmonic_mean_rank",
    "mr": "arithmetic_mean_rank",
    "hits@1": "hits_at_1",
    "hits@3": "hits_at_3",
    "hits@10": "hits_at_10",
}


@dataclass(frozen=True)
class Products:
    """Scores `⟨e_h ⊙ w_r, e_t⟩` of `(N, d)` and `(2R, d)` states."""

    entities: Tensor
    relations: Tensor

    def queries(self, hr: Tensor) -> Tensor:
        """`(n, d)`, what the candidates are multiplied with."""
        return self.entities[hr[:, 0]] * self.relations[hr[:, 1]]

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, N)` scores of the queries `hr` `(n, 2)`."""
        return self.queries(hr) @ self.entities.t()

    def block_scores(self, hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
        """What scores the queries against some entities."""
        queries = self.queries(hr)
        return lambda entities: queries @ self.entities[entities].t()


class PyKEENModel(nn.Module):
    """What PyKEEN's evaluator asks of a model, answered with our scores."""

    device = torch.device("cpu")

    def __init__(self, scores: Products, num_relations: int) -> None:
        super().__init__()
        self.scores = scores
        self.num_entities = len(scores.entities)
        self.num_relations = num_relations

    def predict(self, hrt_batch: Tensor, target: str, **_: object) -> Tensor:
        """`(n, N)` scores of every tail, or of every head."""
        triples = invert(hrt_batch, self.num_relations) if target == "head" else hrt_batch
        return self.scores.score_t(triples[:, :2])


def random_states(data: KGDataset, dim: int) -> Products:
    """Whole numbers up to `LARGEST_STATE`, as float32."""
    low, high = -LARGEST_STATE, LARGEST_STATE + 1
    entities = torch.randint(low, high, (data.num_entities, dim)).float()
    return Products(entities, torch.randint(low, high, (2 * data.num_relations, dim)).float())


def bare_products(queries: Tensor, entities: Tensor, shape: tuple[int, int]) -> Callable[[], None]:
    """The products of queries and candidates, a block of this shape at a time into one buffer."""
    chunk_size, width = shape
    buffer = torch.empty(chunk_size * width)

    def run() -> None:
        for chunk in queries.split(chunk_size):
            for block in entities.split(width):
                size = len(chunk) * len(block)
                out = buffer[:size].view(len(chunk), len(block))
                torch.mm(chunk, block.t(), out=out)

    return run


def first_triples(data: KGDataset, count: int) -> KGDataset:
    """The data with only the first triples of test."""
    return replace(data, test=data.test[:count])


def ranks_of(scores: Products, data: KGDataset) -> dict[str, Ranks]:
    """Our filtered ranks of test's tails and heads, in the order of the triples."""
    everything = torch.cat([data.train, data.valid, data.test])
    known = answer_index(everything, data.num_relations)
    queries = {"tail": data.test, "head": invert(data.test, data.num_relations)}
    return {
        side: rank_tails(scores, triples, known, data.num_entities).filtered
        for side, triples in queries.items()
    }


def compare_with_pykeen(
    scores: Products, data: KGDataset, args: argparse.Namespace, ours: float
) -> bool:
    """Time PyKEEN's evaluator on the same scores; whether all ranks and metrics are the same."""
    total = len(data.test)
    part = first_triples(data, args.pykeen_triples or total)
    count = len(part.test)
    evaluator: Any = importlib.import_module("pykeen.evaluation").RankBasedEvaluator(
        filtered=True, clear_on_finalize=False
    )
    start = time.perf_counter()
    result = evaluator.evaluate(
        PyKEENModel(scores, data.num_relations), part.test, batch_size=args.pykeen_batch,
        additional_filter_triples=[data.train, data.valid], use_tqdm=False,
    )  # fmt: skip
    taken = time.perf_counter() - start
    what = f"all {count:,} triples"
    if count < total:
        what = f"extrapolated from {count:,} triples, which took {taken:.1f} s"
    full = taken * total / count
    peer = f"PyKEEN RankBasedEvaluator (filtered, batch {args.pykeen_batch}), {what}"
    rows = [
        ["kgtool (filtered and raw)", f"{ours:.2f}", "1.0"],
        [peer, f"{full:.2f}", f"{full / ours:.0f}"],
    ]
    common.print_table("beside PyKEEN, the same scores", ["", "seconds", "times kgtool"], rows)

    wrong = 0
    ranks = ranks_of(scores, part)
    for side, found in ranks.items():
        for policy in POLICIES:
            batches = [torch.as_tensor(batch) for batch in evaluator.ranks[side, policy]]
            wrong += int((torch.cat(batches).double() != getattr(found, policy)).sum())
        options = torch.cat([torch.as_tensor(batch) for batch in evaluator.num_candidates[side]])
        wrong += int((options != found.candidates).sum())
    ties = sum(int((found.equal > 0).sum()) for found in ranks.values())
    console.print(
        f"ranks and numbers of candidates that differ: {wrong} of {8 * count:,} (two sides, three "
        f"tie policies; {ties:,} of the {2 * count:,} answers have equals)"
    )
    metrics = evaluate_model(scores, part).filtered
    apart = {}
    for side, policy, name in product(SIDES, POLICIES, PYKEEN_NAMES):
        mine = metrics[side][policy][name]
        theirs = float(result.get_metric(f"{side}.{policy}.{PYKEEN_NAMES[name]}"))
        apart[f"{side} {policy} {name}"] = abs(mine - theirs) / max(abs(mine), 1e-30)
    worst = max(apart, key=apart.__getitem__)
    console.print(
        f"metrics: {len(apart)} compared (both, head, tail; realistic, optimistic, pessimistic; "
        f"{', '.join(PYKEEN_NAMES)}); largest relative difference {apart[worst]:.1e} ({worst}). "
        "PyKEEN takes the means of realistic ranks in float32."
    )
    return wrong == 0 and apart[worst] < 1e-5


def whole_evaluation(model: Scorer, data: KGDataset, chunk_size: int | None) -> None:
    """All that `kgtool evaluate` makes of ranks: breakdowns with intervals, and the three files."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("metrics.json", "breakdown.tsv", "ranks.tsv")]
        Results(evaluate_model(model, data, chunk_size=chunk_size), data, {}, *files).write()


class Bare(NamedTuple):
    """Bare products: of which queries and how many, in blocks of which shape, and their seconds."""

    name: str
    queries: int
    shape: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Timed:
    """What evaluation took, beside the products it contains.

    Attributes:
        seconds, with_gru, whole: of `evaluate_model` with the product of states, and with the GRU
            decoder; of all `kgtool evaluate` does.
        bare: the products of all queries, in evaluation's blocks; in long ones, whose scores leave
            the cache; and of the distinct queries.
        growth: bytes by which evaluation raised the peak.
        evaluation: with the product of states.
    """

    seconds: float
    with_gru: float
    whole: float
    bare: list[Bare]
    growth: int | None
    evaluation: Evaluation


def measure(scores: Products, data: KGDataset, args: argparse.Namespace) -> Timed:
    """Time evaluation and the products it contains."""
    num_entities, dim = scores.entities.shape
    chunk_size, width = block_shape(num_entities, args.chunk_size)
    ours = (min(chunk_size, len(data.test)), min(width, num_entities))
    sides = [data.test[:, :2], invert(data.test, data.num_relations)[:, :2]]
    every = scores.queries(torch.cat(sides))
    distinct = scores.queries(torch.cat([torch.unique(hr, dim=0) for hr in sides]))
    decoder = OnePathDecoder(num_entities, dim).eval()
    # Scaled, so that the cell works on ordinary values.
    gru = Scorer(scores.entities / LARGEST_STATE, scores.relations / LARGEST_STATE, decoder)

    # Compiles the kernels; what that takes is not evaluation's memory.
    evaluate_model(scores, first_triples(data, 2), chunk_size=args.chunk_size)
    growth, _ = common.peak_growth(lambda: evaluate_model(scores, data, chunk_size=args.chunk_size))
    seconds, evaluation = common.median_seconds(
        lambda: evaluate_model(scores, data, chunk_size=args.chunk_size),
        args.repeats,
        warm_up=False,
    )
    with_gru, _ = common.median_seconds(
        lambda: evaluate_model(gru, data, chunk_size=args.chunk_size), args.repeats
    )
    whole, _ = common.median_seconds(
        lambda: whole_evaluation(gru, data, args.chunk_size), args.repeats
    )
    bare = []
    for name, queries, shape in (
        (f"all {len(every):,} queries", every, ours),
        (f"all {len(every):,} queries", every, (1024, min(num_entities, LONG))),
        (f"the {len(distinct):,} distinct queries", distinct, ours),
    ):
        product = bare_products(queries, scores.entities, shape)
        taken, _ = common.median_seconds(product, args.repeats)
        bare.append(Bare(name, len(queries), shape, taken))
    return Timed(seconds, with_gru, whole, bare, growth, evaluation)


def summary(folder: Path, triples: int) -> list[common.Row]:
    """Of a generated graph, 64 dims."""
    common.as_in_training()
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3", "--dim", "64"])
    data = common.dataset(args)
    torch.manual_seed(args.seed)
    with torch.no_grad():
        scores = random_states(data, args.dim)
        found = measure(scores, data, args)
        drawn, _ = common.median_seconds(
            lambda: evaluate_model(scores, data, candidates=Sampled(SAMPLED)), args.repeats
        )
    bare = found.bare[0]
    return [
        common.Row(
            f"ranking in blocks, {bare.queries:,} queries among {data.num_entities:,}",
            f"{found.seconds:.2f} s",
            f"bare products, {bare.name}: {bare.seconds:.2f} s",
            f"{found.seconds / bare.seconds:.2f} times",
        ),
        common.Row(
            f"ranking of the same among {SAMPLED} sampled candidates",
            f"{drawn:.2f} s",
            f"among all: {found.seconds:.2f} s",
            f"{found.seconds / drawn:.1f} times as fast",
        ),
    ]


def print_products(found: Timed, data: KGDataset, dim: int) -> None:
    """The table, and what it means."""
    seconds, with_gru, whole = found.seconds, found.with_gru, found.whole
    rows = [
        ["evaluate_model, product of states", f"{seconds:.3f}", "1.00"],
        ["evaluate_model, GRU decoder", f"{with_gru:.3f}", f"{with_gru / seconds:.2f}"],
        ["kgtool evaluate, GRU decoder", f"{whole:.3f}", f"{whole / seconds:.2f}"],
    ]
    lines = [
        f"with breakdowns, their intervals, and all files, the GRU decoder takes "
        f"{whole / with_gru:.2f} times its ranking alone"
    ]
    for name, count, shape, bare in found.bare:
        size = f"{shape[0]} by {shape[1]:,}"
        speed = 2 * count * data.num_entities * dim / bare / 1e9
        label = f"bare products, {name}, {size} at a time"
        rows.append([label, f"{bare:.3f}", f"{bare / seconds:.2f}"])
        lines.append(
            f"evaluate_model takes {seconds / bare:.2f} times (GRU: {with_gru / bare:.2f}) the "
            f"bare products of {name}, {size} at a time ({speed:.0f} GFLOP/s)"
        )
    common.print_table(
        f"{len(data.test):,} test triples, both sides, filtered and raw, {dim} dims",
        ["", "seconds", "times kgtool"],
        rows,
    )
    for line in lines:
        console.print(line)
    console.print(
        "It scores equal queries of a chunk once; the bare products of all queries do not."
    )
    _, count, (chunk_size, width), _ = found.bare[0]
    console.print(
        f"memory: evaluation raised the resident peak by {megabytes(found.growth)}, of which one "
        f"block of scores is {megabytes(4 * chunk_size * width)}; all scores at once would be "
        f"{megabytes(4 * count * data.num_entities)}"
    )


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=256, help="d (%(default)s)")
    parser.add_argument(
        "--chunk-size", type=common.positive, metavar="N",
        help="answers ranked at a time; by default what evaluate_model takes",
    )  # fmt: skip
    parser.add_argument(
        "--pykeen", action="store_true", help="compare with PyKEEN's evaluator (minutes)"
    )
    parser.add_argument(
        "--pykeen-triples", type=common.positive, metavar="N",
        help="only the first N test triples for PyKEEN; its time is extrapolated",
    )  # fmt: skip
    parser.add_argument(
        "--pykeen-batch", type=common.positive, default=32, metavar="N",
        help="its batch size (%(default)s, which it takes by itself on a CPU)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, time, and return the exit status: 1 where PyKEEN's figures differ."""
    parser = arguments()
    args = parser.parse_args(argv)
    if args.dim * LARGEST_STATE**3 >= 2**24:
        parser.error(f"{args.dim} dims: scores would not be exact in float32")
    data = common.dataset(args)
    common.describe(data)
    torch.manual_seed(args.seed)
    scores = random_states(data, args.dim)
    with torch.no_grad():
        found = measure(scores, data, args)
        print_products(found, data, args.dim)
        console.print(f"check: MRR of these random states {found.evaluation.mrr:.6f}")
        if args.pykeen and common.installed("pykeen"):
            return 0 if compare_with_pykeen(scores, data, args, found.seconds) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
