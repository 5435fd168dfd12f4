"""Small versions of the measurements in docs/results/scale.md, in one table, in minutes.

    python -m benchmarks

Each part runs a script of this folder in its own process, on graphs from
`scripts/generate_large.py`. The last column gives the command for the full size. If a part fails,
its row says so, and the exit status is 1. After Ctrl-C, the table has the finished rows.
"""

from __future__ import annotations

import argparse
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Import first: kgtool must be imported before torch.
from benchmarks import (
    budget,
    common,
    mapped,
    ranking,
    scale,
    teamwork,
    throughput,
)
from benchmarks.common import Row

# isort: split
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

WIDTH = 150  # characters: the table contains command lines
SIZES = (250_000, 500_000, 1_000_000)  # triples
SMALL = "--synthetic --entities 5000 --relations 100 --triples 60000 --held-out 2000".split()


@dataclass(frozen=True)
class Part:
    """A benchmark: a function that returns rows, and the command for the full size."""

    name: str
    call: Callable[[], list[Row]]
    large: str


def parts(folder: Path) -> list[Part]:
    """All parts; they share the graphs that they generate in the folder."""
    return [
        Part(
            "scale",
            partial(scale.summary, folder, SIZES),
            "python -m benchmarks.scale --triples 1000000 2000000 5000000 20000000",
        ),
        Part(
            "budget",
            partial(budget.summary, folder, SIZES[1]),
            "python -m benchmarks.budget --synthetic --entities 1000000 --triples 4000000 "
            "--relations 800",
        ),
        Part(
            "mapped",
            partial(mapped.summary, folder, SIZES[1]),
            "python -m benchmarks.mapped --synthetic --entities 1000000 --triples 5000000",
        ),
        Part(
            "ranking",
            partial(ranking.summary, folder, SIZES[1]),
            "python -m benchmarks.ranking --synthetic --entities 1000000 --held-out 1000 --dim 64",
        ),
        Part(
            "throughput",
            partial(throughput.summary, [*SMALL, "--part", "4000"]),
            "python -m benchmarks.throughput --data FB15k-237.tar.gz --part 20000",
        ),
        Part(
            "teamwork",
            partial(teamwork.summary, SMALL),
            "python -m benchmarks.teamwork --data FB15k-237.tar.gz",
        ),
    ]


def rows_of(part: Part) -> list[Row]:
    """Run a part; one row with the error if it fails."""
    try:
        return common.in_own_process(part.call)
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        why = textwrap.shorten(f"failed: {type(error).__name__}: {error}", 200, placeholder=" …")
        return [Row(part.name, why, "", "", failed=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts and print the table; return 1 if a part failed."""
    argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)  # fmt: skip
    common.describe()
    results: list[tuple[Part, list[Row]]] = []
    with tempfile.TemporaryDirectory() as folder, tqdm(parts(Path(folder)), unit="part") as bar:
        try:
            for part in bar:
                bar.set_description(part.name)
                results.append((part, rows_of(part)))
        except KeyboardInterrupt:
            results.append((part, [Row(part.name, "stopped", "", "", failed=True)]))
    table = Table(title="benchmarks, small versions", title_justify="left", show_lines=True)
    columns = ("measurement", "result", "limit or baseline", "ratio", "command for the full size")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in (1, 3) else "left", overflow="fold")
    for part, rows in results:
        for row in rows:
            style = "bold red" if row.failed else None
            table.add_row(*row[:4], part.large, style=style)
    Console(width=WIDTH, highlight=False, markup=False).print(table)
    return int(any(row.failed for _, rows in results for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
