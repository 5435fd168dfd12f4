"""Code that the benchmarks share: data, the description of the machine, timing, tables."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

# Import before torch: kgtool sets how OpenMP's threads wait, which has no effect later.
import kgtool

# isort: split
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kgtool import KGDataset, KGToolError, Vocabulary, load_dataset
from kgtool.ops import keep_large_blocks
from kgtool.ops.runtime.compiling import match_threads

# The size of FB15k-237, the default of --synthetic.
ENTITIES, RELATIONS, TRAIN, HELD_OUT = 14_541, 237, 272_115, 20_466

# Narrow enough for a code block in the README, and wide enough for all cells in a log file.
console = Console(width=110, highlight=False)

T = TypeVar("T")


class Row(NamedTuple):
    """A row of `python -m benchmarks`: a result, its limit or baseline, and their ratio."""

    what: str
    figure: str
    baseline: str
    ratio: str
    failed: bool = False


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with options for the triples to run on: a data set, or random triples."""
    out = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = out.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data", type=Path, metavar="PATH", help="a folder, .zip or .tar.gz of triples"
    )
    source.add_argument(
        "--synthetic", action="store_true", help="random triples, by default of FB15k-237's size"
    )
    size = out.add_argument_group("with --synthetic")
    size.add_argument("--entities", type=int, default=ENTITIES, metavar="N", help="%(default)s")
    size.add_argument(
        "--relations",
        type=int,
        default=RELATIONS,
        metavar="N",
        help="%(default)s, without inverses",
    )
    size.add_argument(
        "--triples", type=int, default=TRAIN, metavar="N",
        help="%(default)s train triples; each gives two edges of the graph",
    )  # fmt: skip
    size.add_argument(
        "--held-out", type=int, default=HELD_OUT, metavar="N",
        help="%(default)s triples in valid and in test each",
    )  # fmt: skip
    out.add_argument("--seed", type=int, default=1, metavar="N", help="%(default)s")
    out.add_argument(
        "--repeats",
        type=positive,
        default=5,
        metavar="N",
        help="runs of kgtool (%(default)s); the result is their median",
    )
    out.epilog = "Threads: set OMP_NUM_THREADS and NUMBA_NUM_THREADS; default one per core."
    return out


def positive(text: str) -> int:
    """Parse an integer above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def fail(message: str) -> NoReturn:
    """Exit with a message."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def dataset(args: argparse.Namespace) -> KGDataset:
    """The triples for `parser`'s arguments; exits with a message if they cannot be made."""
    if args.data is None:
        try:
            return synthetic(args.entities, args.relations, args.triples, args.held_out, args.seed)
        except ValueError as error:
            fail(f"{error}.")
    try:
        return load_dataset(args.data)
    except KGToolError as error:
        fail(f"{error}\nOr run on random triples of the same size: --synthetic")


def synthetic(entities: int, relations: int, train: int, held_out: int, seed: int) -> KGDataset:
    """Random triples with skewed distributions, because the time depends on them.

    Relations and entities follow power laws. A relation joins a pool of heads with a pool of tails.
    At FB15k-237's size, the edges therefore have about as many (tail, relation) pairs as those of
    FB15k-237.

    Args:
        entities, relations: their numbers.
        train: the number of train triples.
        held_out: the number of triples in valid and in test each.
        seed: the seed of the random numbers.

    Raises:
        ValueError: if there are too few entities for so many triples, or a number is below 1.
    """
    total = train + 2 * held_out
    if min(entities, relations, train, held_out) < 1:
        raise ValueError("entities, relations, triples and held-out triples must be above 0")
    if total * 8 > entities**2:
        raise ValueError(f"{entities} entities are too few for {total} random triples")
    rng = np.random.default_rng(seed)
    share = np.arange(1, relations + 1) ** -0.7
    counts = np.diff(np.rint(np.append(0, share.cumsum() / share.sum()) * total).astype(np.int64))
    popularity = np.arange(1, entities + 1) ** -0.8
    popularity = rng.permutation(popularity / popularity.sum())
    parts = []
    for relation, count in enumerate(counts.tolist()):
        size = min(entities, 3 + int(1.3 * count**0.8))
        pairs = np.empty(0, np.int64)
        while len(pairs) < count:
            heads, tails = (rng.choice(entities, size, False, popularity) for _ in range(2))
            head, tail = _skewed(rng, heads, 2 * count, 1.5), _skewed(rng, tails, 2 * count, 6)
            pairs = np.union1d(pairs, head * entities + tail)
            size = min(entities, 2 * size)
        pairs = rng.choice(pairs, count, replace=False)
        parts.append(np.stack([pairs // entities, np.full(count, relation), pairs % entities], 1))
    triples = torch.from_numpy(rng.permutation(np.concatenate(parts)))
    vocabulary = Vocabulary(
        tuple(f"e{i}" for i in range(entities)), tuple(f"r{i}" for i in range(relations))
    )
    splits = [part.contiguous() for part in triples.split([train, held_out, held_out])]
    return KGDataset("synthetic", None, vocabulary, *splits)


def _skewed(
    rng: np.random.Generator, pool: NDArray[np.int64], count: int, power: float
) -> NDArray[np.int64]:
    """`(count,)` samples from a pool; its first members are more frequent."""
    return pool[(len(pool) * rng.random(count) ** power).astype(np.int64)]


def installed(module: str) -> bool:
    """Whether a library to compare with is installed; prints a message if it is not."""
    if importlib.util.find_spec(module) is not None:
        return True
    console.print(f"{module} is skipped: it is not installed. Use pip install -e '.\\[benchmarks]'")
    return False


def as_in_training() -> None:
    """Set memory allocation and threads as training and evaluation do."""
    keep_large_blocks()
    match_threads()


def describe(data: KGDataset | None = None) -> None:
    """Print the versions, the machine and the data; call `as_in_training`."""
    as_in_training()
    packages = ("kgtool", "torch", "dgl", "torch-geometric", "pykeen", "numba", "numpy")
    versions = [f"{name} {version}" for name in packages if (version := _version(name))]
    console.print(f"[bold]versions[/]  {', '.join(versions)}, Python {platform.python_version()}")
    threads = numba.get_num_threads()
    busy = f"load average {os.getloadavg()[0]:.1f} at the start"
    console.print(
        f"[bold]machine[/]   {_cpu()}; {os.cpu_count()} cores; "
        f"threads: torch {torch.get_num_threads()}, kgtool's kernels {threads}; {busy}"
    )
    if data is not None:
        console.print(
            f"[bold]data[/]      {data.name}: {data.num_entities:,} entities, "
            f"{data.num_relations:,} relations, {len(data.train):,} / {len(data.valid):,} / "
            f"{len(data.test):,} triples in train / valid / test"
        )


def _version(package: str) -> str | None:
    if package == "kgtool":
        return kgtool.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def median_seconds(call: Callable[[], T], repeats: int, warm_up: bool = True) -> tuple[float, T]:
    """The median wall time of several calls, and the result of the last one.

    Args:
        call: the function to time.
        repeats: the number of timed calls.
        warm_up: whether to call once before, untimed, to compile kernels and to fill caches.
    """
    if warm_up:
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def in_own_process(call: Callable[..., T], *arguments: object) -> T:
    """Call a function in a new process, in which nothing else is loaded; return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def peak_growth(call: Callable[[], T]) -> tuple[int | None, T]:
    """The growth of the peak of resident memory in a call, in bytes; and the call's result.

    The growth is None if the system has no `/proc` as Linux has.
    """
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        clear.write_text("5")  # resets the peak to the memory that is resident now
        before = _kilobytes(status, "VmHWM")
    except OSError:
        before = None
    result = call()
    if before is None:
        return None, result
    return 1024 * (_kilobytes(status, "VmHWM") - before), result


def _kilobytes(status: Path, field: str) -> int:
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def own_bytes() -> int | None:
    """Resident memory that is not mapped to files; None if the system does not report it."""
    status = Path("/proc/self/status")
    return 1024 * _kilobytes(status, "RssAnon") if status.exists() else None


def peak_bytes() -> int:
    """The peak of the process's resident memory, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's value starts from the parent's
        return 1024 * _kilobytes(status, "VmHWM")
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def megabytes(count: float | None) -> str:
    """Bytes as text, in MB (10⁶ bytes)."""
    return "unknown" if count is None else f"{count / 1e6:,.0f} MB"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column holds text, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=bool(i))
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
