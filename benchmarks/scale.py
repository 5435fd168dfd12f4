"""Scale: time and memory of each step from files to queries, as the graph grows.

Graphs of `scripts/generate_large.py`, 0.24 entities a triple as in Wikidata5M, each in a process of
its own. The peak is of all that is resident in a step, what the steps before left included.

    python -m benchmarks.scale --triples 1000000 2000000 5000000 20000000
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# First: kgtool is to be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
import numpy as np

from kgtool.data.answer_index import answer_index
from kgtool.data.loaders import load_with_report
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops.runtime.dgl import dgl  # noqa: F401 - imported before the first step
from scripts import generate_large

ENTITIES = 0.24  # for each triple
RELATIONS, HELD_OUT = 822, 5000  # at most

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """What was done: its seconds, and the peak of resident bytes meanwhile."""

    name: str
    seconds: float
    peak: int


def generate(folder: Path, triples: int, seed: int = 0) -> Path:
    """Write a graph into a folder of graphs, unless it is there, and tell where."""
    place = folder / f"{triples}-{seed}"
    if (place / "train.txt").exists():
        return place
    sizes = {
        "entities": round(triples * ENTITIES),
        "triples": triples,
        "relations": min(RELATIONS, triples // 200),
        "held-out": min(HELD_OUT, triples // 100),
        "seed": seed,
    }
    with contextlib.redirect_stdout(sys.stderr):
        generate_large.main([str(place), *(f"--{name}={size}" for name, size in sizes.items())])
    return place


def making(folder: Path, triples: int, seed: int) -> Step:
    """Write a graph, unless it is there."""
    start = time.perf_counter()
    generate(folder, triples, seed)
    return Step("making it", time.perf_counter() - start, common.peak_bytes())


def steps(place: Path) -> list[Step]:
    """Load a graph and index it, as training does."""
    found = [Step("imports", 0.0, common.peak_bytes())]

    def timed(name: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = common.peak_growth(call)[1]  # which sets the peak back before
        found.append(Step(name, time.perf_counter() - start, common.peak_bytes()))
        return result

    dataset = timed("load, with report", lambda: load_with_report(place)[0])
    timed("DGL heterograph", lambda: dataset.graph)
    graph = timed("knowledge graph", lambda: KnowledgeGraph.from_dataset(dataset))
    timed("its reverse order", lambda: (graph.csc.reverse, graph.inverse))
    timed("answer index", lambda: answer_index(dataset.train, dataset.num_relations))
    return found


def measure(folder: Path, sizes: Sequence[int], seed: int = 0) -> dict[int, list[Step]]:
    """By triples, imports, the making and the steps of each graph, which stays in the folder."""
    taken = {}
    for size in sizes:
        made = common.in_own_process(making, folder, size, seed)
        imports, *rest = common.in_own_process(steps, generate(folder, size, seed))
        taken[size] = [imports, made, *rest]
    return taken


def fit(sizes: Sequence[int], peaks: Sequence[int]) -> tuple[float, float]:
    """Bytes a triple by least squares, and the farthest peak from that line, in % of itself."""
    line = np.polyfit(sizes, peaks, 1)
    residual = np.abs(np.polyval(line, sizes) / np.array(peaks) - 1).max()
    return float(line[0]), 100 * float(residual)


def summary(folder: Path, sizes: Sequence[int]) -> list[common.Row]:
    """The peak of each step, above what imports take, against triples."""
    rows = []
    imports, *found = zip(*measure(folder, sizes).values(), strict=True)
    for of_step in found:
        above = [step.peak - before.peak for step, before in zip(of_step, imports, strict=True)]
        slope, farthest = fit(sizes, above)
        what = f"peak memory: {of_step[0].name}, of {sizes[0]:,} to {sizes[-1]:,} triples"
        rows.append(
            common.Row(
                what, f"{slope:.0f} bytes a triple", "a line", f"{farthest:.0f} % off at most"
            )
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, generate, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--triples", type=common.positive, nargs="+", metavar="N", default=[1_000_000],
        help="train triples of each graph (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, metavar="PATH", help="where graphs are kept; by default nowhere"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="%(default)s")
    args = parser.parse_args(argv)
    common.describe()
    sizes = sorted(set(args.triples))
    with tempfile.TemporaryDirectory() as scratch:
        taken = measure(args.folder or Path(scratch), sizes, args.seed)
    rows = []
    for i, name in enumerate(step.name for step in taken[sizes[0]]):
        of_step = [taken[size][i] for size in sizes]
        slope = ""
        if len(sizes) > 1:
            slope = "{:.0f} ± {:.0f} %".format(*fit(sizes, [step.peak for step in of_step]))
        for size, step in zip(sizes, of_step, strict=True):
            last = size == sizes[-1]
            rows.append(
                [
                    f"{name}, {size:,}", f"{step.seconds:.1f}", common.megabytes(step.peak),
                    f"{step.peak / size:,.0f}", slope if last else "",
                ]
            )  # fmt: skip
    columns = ["step, triples", "seconds", "peak", "bytes a triple", "slope ± farthest"]
    common.print_table("from files to queries", columns, rows)
    total = ", ".join(
        f"{size:,}: {sum(step.seconds for step in taken[size][2:]):.1f} s" for size in sizes
    )
    console.print(f"all steps from loading on: {total}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
