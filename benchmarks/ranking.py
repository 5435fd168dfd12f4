"""Evaluation (both sides, filtered and raw, all tie policies), compared with bare matrix products.

The states are small integers. So scores are exact in float32 for any chunk size, and some scores
tie: the benchmark can compare ranks one by one. It times three ways to score: the product of head
and relation states (DistMult); the GRU decoder of `kgtool train`; and bare products alone, which
multiply given queries with the candidates into a reused buffer. It also times all of `kgtool
evaluate`, with breakdowns, confidence intervals and files.

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

# Import first: kgtool must be imported before torch.
from benchmarks import common, scale
from benchmarks.common import console, megabytes

# isort: split
import torch
from torch import Tensor, nn

from kgtool import Evaluation, KGDataset, evaluate_model
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import invert
from kgtool.evaluation.analysis.results import LinkResult
from kgtool.evaluation.candidates import Sampled
from kgtool.evaluation.evaluator import SIDES
from kgtool.evaluation.metrics import POLICIES
from kgtool.evaluation.ranking import Ranks, block_shape, rank_tails
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.scorers import EmbeddingScorer, Scorer

LONG = 20_000  # entities
SAMPLED = 500  # candidates
LARGEST_STATE = 8  # 8³ · 256 dims < 2²⁴: every score is exact in float32

# Our name of a metric → PyKEEN's name.
PYKEEN_NAMES = {
    "mrr": "inverse_harmonic_mean_rank",
    "mr": "arithmetic_mean_rank",
    "hits@1": "hits_at_1",
    "hits@3": "hits_at_3",
    "hits@10": "hits_at_10",
}


@dataclass(frozen=True)
class Products(Scorer):
    """A scorer, `⟨e_h ⊙ w_r, e_t⟩`, of `(N, d)` entity and `(2R, d)` relation states."""

    entities: Tensor
    relations: Tensor

    in_blocks = True

    def queries(self, hr: Tensor) -> Tensor:
        """`(n, d)`, the vectors that are multiplied with the candidates."""
        return self.entities[hr[:, 0]] * self.relations[hr[:, 1]]

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, N)` scores of the queries `hr` `(n, 2)`."""
        return self.queries(hr) @ self.entities.t()

    def block_scores(self, hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
        """A function that scores the queries against given entities."""
        queries = self.queries(hr)
        return lambda entities: queries @ self.entities[entities].t()


class PyKEENModel(nn.Module):
    """A model for PyKEEN's evaluator that returns our scores."""

    device = torch.device("cpu")

    def __init__(self, scores: Products, num_relations: int) -> None:
        super().__init__()
        self.scores = scores
        self.num_entities = len(scores.entities)
        self.num_relations = num_relations

    def predict(self, hrt_batch: Tensor, target: str, **_: object) -> Tensor:
        """`(n, N)` scores of all tails, or of all heads."""
        triples = invert(hrt_batch, self.num_relations) if target == "head" else hrt_batch
        return self.scores.score_t(triples[:, :2])


def random_states(data: KGDataset, dim: int) -> Products:
    """Random integers from -`LARGEST_STATE` to `LARGEST_STATE`, as float32."""
    low, high = -LARGEST_STATE, LARGEST_STATE + 1
    entities = torch.randint(low, high, (data.num_entities, dim)).float()
    return Products(entities, torch.randint(low, high, (2 * data.num_relations, dim)).float())


def bare_products(queries: Tensor, entities: Tensor, shape: tuple[int, int]) -> Callable[[], None]:
    """A function that multiplies queries with candidates, in blocks of a shape, in one buffer."""
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
    """Our filtered ranks of the tails and the heads of test, in the order of triples."""
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
    """Time PyKEEN's evaluator on the same scores; return whether ranks and metrics are equal."""
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
        what = f"extrapolated from {count:,} triples ({taken:.1f} s)"
    full = taken * total / count
    peer = f"PyKEEN RankBasedEvaluator (filtered, batch {args.pykeen_batch}), {what}"
    rows = [
        ["kgtool (filtered and raw)", f"{ours:.2f}", "1.0"],
        [peer, f"{full:.2f}", f"{full / ours:.0f}"],
    ]
    title = "evaluation of the same scores, compared with PyKEEN"
    common.print_table(title, ["", "seconds", "times kgtool"], rows)

    wrong = 0
    ranks = ranks_of(scores, part)
    for side, own in ranks.items():
        for policy in POLICIES:
            batches = [torch.as_tensor(batch) for batch in evaluator.ranks[side, policy]]
            wrong += int((torch.cat(batches).double() != getattr(own, policy)).sum())
        options = torch.cat([torch.as_tensor(batch) for batch in evaluator.num_candidates[side]])
        wrong += int((options != own.candidates).sum())
    ties = sum(int((own.equal > 0).sum()) for own in ranks.values())
    console.print(
        f"ranks and numbers of candidates that differ: {wrong} of {8 * count:,} (two sides, three "
        f"tie policies; {ties:,} of the {2 * count:,} answers tie with another candidate)"
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
        "PyKEEN computes the means of realistic ranks in float32."
    )
    return wrong == 0 and apart[worst] < 1e-5


def whole_evaluation(model: EmbeddingScorer, data: KGDataset, chunk_size: int | None) -> None:
    """All steps of `kgtool evaluate`: ranks, breakdowns with intervals, and the three files."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tables = {name: place / f"{name}.tsv" for name in ("breakdown", "ranks")}
        found = evaluate_model(model, data, chunk_size=chunk_size)
        LinkResult(found, data, {}, place / "metrics.json", tables).write()


class Bare(NamedTuple):
    """Bare products: a name, the number of queries, the shape of blocks, and their seconds."""

    name: str
    queries: int
    shape: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Timed:
    """The time of evaluation, and of the products that it contains.

    Attributes:
        seconds, with_gru, whole: seconds of `evaluate_model` with the product of states, and with
            the GRU decoder; seconds of all of `kgtool evaluate`.
        bare: the products of all queries, in the blocks of evaluation; of all queries, in long
            blocks, whose scores do not fit in the cache; and of the distinct queries.
        growth: growth of peak memory in evaluation, in bytes.
        evaluation: the metrics with the product of states.
    """

    seconds: float
    with_gru: float
    whole: float
    bare: list[Bare]
    growth: int | None
    evaluation: Evaluation


def measure(scores: Products, data: KGDataset, args: argparse.Namespace) -> Timed:
    """Time evaluation and the products that it contains."""
    num_entities, dim = scores.entities.shape
    chunk_size, width = block_shape(num_entities, args.chunk_size)
    ours = (min(chunk_size, len(data.test)), min(width, num_entities))
    sides = [data.test[:, :2], invert(data.test, data.num_relations)[:, :2]]
    every = scores.queries(torch.cat(sides))
    distinct = scores.queries(torch.cat([torch.unique(hr, dim=0) for hr in sides]))
    decoder = OnePathDecoder(num_entities, dim).eval()
    # Scaled, so that the GRU cell gets values of an ordinary size.
    gru = EmbeddingScorer(
        scores.entities / LARGEST_STATE, scores.relations / LARGEST_STATE, decoder
    )

    # Compile the kernels first: the memory of compilation does not count.
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
    """The rows for a generated graph, with 64 dims."""
    common.as_in_training()
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3", "--dim", "64"])
    data = common.dataset(args)
    torch.manual_seed(args.seed)
    with torch.no_grad():
        scores = random_states(data, args.dim)
        timed = measure(scores, data, args)
        sampled, _ = common.median_seconds(
            lambda: evaluate_model(scores, data, candidates=Sampled(SAMPLED)), args.repeats
        )
    bare = timed.bare[0]
    return [
        common.Row(
            f"ranking in blocks, {bare.queries:,} queries among {data.num_entities:,}",
            f"{timed.seconds:.2f} s",
            f"bare products, {bare.name}: {bare.seconds:.2f} s",
            f"{timed.seconds / bare.seconds:.2f} times",
        ),
        common.Row(
            f"ranking of the same queries among {SAMPLED} sampled candidates",
            f"{sampled:.2f} s",
            f"among all: {timed.seconds:.2f} s",
            f"{timed.seconds / sampled:.1f} times as fast",
        ),
    ]


def print_products(timed: Timed, data: KGDataset, dim: int) -> None:
    """Print the table of times, and the ratios."""
    seconds, with_gru, whole = timed.seconds, timed.with_gru, timed.whole
    rows = [
        ["evaluate_model, product of states", f"{seconds:.3f}", "1.00"],
        ["evaluate_model, GRU decoder", f"{with_gru:.3f}", f"{with_gru / seconds:.2f}"],
        ["kgtool evaluate, GRU decoder", f"{whole:.3f}", f"{whole / seconds:.2f}"],
    ]
    lines = [
        f"with breakdowns, their intervals and all files, evaluation with the GRU decoder takes "
        f"{whole / with_gru:.2f} times as long as ranking alone"
    ]
    for name, count, shape, bare in timed.bare:
        size = f"{shape[0]} by {shape[1]:,}"
        speed = 2 * count * data.num_entities * dim / bare / 1e9
        label = f"bare products, {name}, {size} at a time"
        rows.append([label, f"{bare:.3f}", f"{bare / seconds:.2f}"])
        lines.append(
            f"evaluate_model takes {seconds / bare:.2f} times (GRU: {with_gru / bare:.2f}) as long "
            f"as the bare products of {name}, {size} at a time ({speed:.0f} GFLOP/s)"
        )
    common.print_table(
        f"{len(data.test):,} test triples, both sides, filtered and raw, {dim} dims",
        ["", "seconds", "times kgtool"],
        rows,
    )
    for line in lines:
        console.print(line)
    console.print(
        "evaluate_model scores equal queries of a chunk once; the bare products of all queries "
        "score them again."
    )
    _, count, (chunk_size, width), _ = timed.bare[0]
    console.print(
        f"memory: evaluation raised peak memory by {megabytes(timed.growth)}, including "
        f"{megabytes(4 * chunk_size * width)} for a block of scores; all scores at once would take "
        f"{megabytes(4 * count * data.num_entities)}"
    )


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=256, help="d (%(default)s)")
    parser.add_argument(
        "--chunk-size", type=common.positive, metavar="N",
        help="answers ranked at a time (the default of evaluate_model)",
    )  # fmt: skip
    parser.add_argument(
        "--pykeen", action="store_true", help="compare with PyKEEN's evaluator (minutes)"
    )
    parser.add_argument(
        "--pykeen-triples", type=common.positive, metavar="N",
        help="use only the first N test triples with PyKEEN, and extrapolate its time",
    )  # fmt: skip
    parser.add_argument(
        "--pykeen-batch", type=common.positive, default=32, metavar="N",
        help="PyKEEN's batch size (%(default)s, its own default on a CPU)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, and return the exit status: 1 if PyKEEN's results differ."""
    parser = arguments()
    args = parser.parse_args(argv)
    if args.dim * LARGEST_STATE**3 >= 2**24:
        parser.error(f"{args.dim} dims: scores would not be exact in float32")
    data = common.dataset(args)
    common.describe(data)
    torch.manual_seed(args.seed)
    scores = random_states(data, args.dim)
    with torch.no_grad():
        timed = measure(scores, data, args)
        print_products(timed, data, args.dim)
        console.print(f"check: the MRR of these random states is {timed.evaluation.mrr:.6f}")
        if args.pykeen and common.installed("pykeen"):
            return 0 if compare_with_pykeen(scores, data, args, timed.seconds) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
