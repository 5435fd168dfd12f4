"""Scale: time and memory of each step from files to queries, for graphs of several sizes.

The graphs come from `scripts/generate_large.py`, with 0.24 entities per triple as in Wikidata5M.
Each is measured in its own process. The peak of a step is all resident memory, including the data
of earlier steps.

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

# Import first: kgtool must be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
import numpy as np

from kgtool.data.answer_index import answer_index
from kgtool.data.loaders import load_with_report
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops.runtime.dgl import dgl  # noqa: F401 - imported before the first step
from scripts import generate_large

ENTITIES = 0.24  # per triple
RELATIONS, HELD_OUT = 822, 5000  # at most

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A step: its name, its seconds, and the peak of resident memory in bytes."""

    name: str
    seconds: float
    peak: int


def generate(folder: Path, triples: int, seed: int = 0) -> Path:
    """Write a graph into a folder of graphs, unless it exists, and return its path."""
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
    """Measure the writing of a graph, unless it exists."""
    start = time.perf_counter()
    generate(folder, triples, seed)
    return Step("generate", time.perf_counter() - start, common.peak_bytes())


def steps(place: Path) -> list[Step]:
    """Measure the loading and the indexing of a graph, as in training."""
    measured = [Step("imports", 0.0, common.peak_bytes())]

    def timed(name: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = common.peak_growth(call)[1]  # this resets the peak before the call
        measured.append(Step(name, time.perf_counter() - start, common.peak_bytes()))
        return result

    dataset = timed("load, with report", lambda: load_with_report(place)[0])
    timed("DGL heterograph", lambda: dataset.graph)
    graph = timed("knowledge graph", lambda: KnowledgeGraph.from_dataset(dataset))
    timed("its reverse order", lambda: (graph.csc.reverse, graph.inverse))
    timed("answer index", lambda: answer_index(dataset.train, dataset.num_relations))
    return measured


def measure(folder: Path, sizes: Sequence[int], seed: int = 0) -> dict[int, list[Step]]:
    """For each number of triples, the steps: imports, the generation, and those of `steps`.

    The graphs stay in the folder.
    """
    taken = {}
    for size in sizes:
        made = common.in_own_process(making, folder, size, seed)
        imports, *rest = common.in_own_process(steps, generate(folder, size, seed))
        taken[size] = [imports, made, *rest]
    return taken


def fit(sizes: Sequence[int], peaks: Sequence[int]) -> tuple[float, float]:
    """Bytes per triple by least squares, and the largest deviation from the line, in %."""
    line = np.polyfit(sizes, peaks, 1)
    residual = np.abs(np.polyval(line, sizes) / np.array(peaks) - 1).max()
    return float(line[0]), 100 * float(residual)


def summary(folder: Path, sizes: Sequence[int]) -> list[common.Row]:
    """The growth of each step's peak with the number of triples, above the peak of imports."""
    rows = []
    imports, *measured = zip(*measure(folder, sizes).values(), strict=True)
    for of_step in measured:
        above = [step.peak - before.peak for step, before in zip(of_step, imports, strict=True)]
        slope, farthest = fit(sizes, above)
        what = f"peak memory: {of_step[0].name}, of {sizes[0]:,} to {sizes[-1]:,} triples"
        rows.append(
            common.Row(
                what, f"{slope:.0f} bytes a triple", "linear growth", f"within {farthest:.0f} %"
            )
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, generate the graphs, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--triples", type=common.positive, nargs="+", metavar="N", default=[1_000_000],
        help="train triples of each graph (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, metavar="PATH", help="folder for the graphs (a temporary folder)"
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
    columns = ["step, triples", "seconds", "peak memory", "bytes a triple", "slope ± deviation"]
    common.print_table("from files to queries", columns, rows)
    total = ", ".join(
        f"{size:,}: {sum(step.seconds for step in taken[size][2:]):.1f} s" for size in sizes
    )
    console.print(f"all steps after generation: {total}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
