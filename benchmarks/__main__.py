"""The small versions of the figures of docs/scale.md, in one table, in minutes.

    python -m benchmarks

Each part is what a script of this folder measures, in a process of its own, on graphs that
`scripts/generate_large.py` makes; the last column is the command for the full size. A part that
fails has a row that says so, and the exit status is 1. Ctrl-C ends it with the rows that there are.
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

# First: kgtool is to be imported before torch.
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

WIDTH = 150  # of the table: it holds command lines
SIZES = (250_000, 500_000, 1_000_000)  # triples
SMALL = "--synthetic --entities 5000 --relations 100 --triples 60000 --held-out 2000".split()


@dataclass(frozen=True)
class Part:
    """What gives some rows, and the command for the full size."""

    name: str
    call: Callable[[], list[Row]]
    large: str


def parts(folder: Path) -> list[Part]:
    """All parts; those that need a generated graph leave it in the folder for the next."""
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
    """What a part gives, or that it failed."""
    try:
        return common.in_own_process(part.call)
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        why = textwrap.shorten(f"failed: {type(error).__name__}: {error}", 200, placeholder=" …")
        return [Row(part.name, why, "", "", failed=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts, print the table; 1 where one failed."""
    argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)  # fmt: skip
    common.describe()
    found: list[tuple[Part, list[Row]]] = []
    with tempfile.TemporaryDirectory() as folder, tqdm(parts(Path(folder)), unit="part") as bar:
        try:
            for part in bar:
                bar.set_description(part.name)
                found.append((part, rows_of(part)))
        except KeyboardInterrupt:
            found.append((part, [Row(part.name, "stopped", "", "", failed=True)]))
    table = Table(title="small versions of the figures", title_justify="left", show_lines=True)
    for i, column in enumerate(("what", "figure", "limit or peer", "ratio", "full size")):
        table.add_column(column, justify="right" if i in (1, 3) else "left", overflow="fold")
    for part, rows in found:
        for row in rows:
            style = "bold red" if row.failed else None
            table.add_row(*row[:4], part.large, style=style)
    Console(width=WIDTH, highlight=False, markup=False).print(table)
    return int(any(row.failed for _, rows in found for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
