"""Training with several processes: edges a second, and the speed-up over one process.

`torchrun` starts 1 and more processes on this machine, each with one thread. The model, the data
and the total batch of a step are the same. An edge counts each time that it is a training target.

- Dense: the one-path decoder; 1,024 (head, relation) queries a step, scored against all entities.
- Sampled: 4,096 edges a step, with 4,096 sampled negatives. Each process samples negatives. The
  processes share the rows of the embedding table.
- All paths: passes from 16 heads a step.

    python -m benchmarks.teamwork --data FB15k-237.tar.gz
    python -m benchmarks.teamwork --synthetic --processes 1 2 4
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import torch
from torch import Tensor

from kgtool import KGDataset
from kgtool.config import Config, parse_config
from kgtool.distributed import process_group
from kgtool.graph.partition import metis
from kgtool.training.objectives import AllPathsObjective, OnePathObjective
from kgtool.training.step import Updater

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
PATIENCE = 1800  # seconds
HEADS = 256  # heads for the mean number of targets
Speeds = dict[str, float]


def configs() -> dict[str, Config]:
    """The configurations of the models, by name."""
    one: dict[str, Any] = {"dim": 64, "encoder": {"layers": 0}}
    sampled = {"batch_size": 4096, "training": "negative_sampling", "num_negatives": 4096}
    kinds: dict[str, dict[str, Any]] = {
        "one path, dense": one | {"one_path": {"batch_size": 1024}},
        "one path, sampled": one | {"one_path": sampled, "training": {"optimizer": "adagrad"}},
        "all paths": {"dim": 32, "all_paths": {"layers": 3, "batch_size": 16}},
    }
    return {name: parse_config(settings) for name, settings in kinds.items()}


def edges_a_row(updater: Updater, data: KGDataset, order: Tensor) -> float:
    """The mean number of target edges for a row of an epoch's order."""
    objective = updater.objective
    if isinstance(objective, OnePathObjective):
        return 2 * len(data.train) / len(objective.answers)
    if isinstance(objective, AllPathsObjective):
        heads = order[:HEADS]
        return sum(len(part.tail) for part in objective.parts(heads)) / len(heads)
    return 1.0


def speed(config: Config, data: KGDataset, owners: Path, steps: int, repeats: int) -> float:
    """The edges a second that all processes together train on."""
    updater = Updater(config, data, owners)
    order = updater.objective.order(config.seed, 0)
    batches = updater.batches(order)[:steps]

    def train() -> None:
        process_group.barrier()
        for rows in batches:
            updater.make_step(rows)
        process_group.barrier()

    seconds, _ = common.median_seconds(train, repeats)
    count = torch.tensor(sum(len(rows) for rows in batches))  # processes may have different numbers
    process_group.all_reduce([count])
    return int(count) * edges_a_row(updater, data, order) / seconds


def work(args: argparse.Namespace) -> None:
    """Train, in each process of a group; the first process writes the speeds to a file."""
    with process_group.joined_group():
        common.as_in_training()
        data = common.dataset(args)
        speeds = {
            name: speed(config, data, args.into.with_name("owners"), args.steps, args.repeats)
            for name, config in configs().items()
        }
        if process_group.rank() == 0:
            args.into.write_text(json.dumps(speeds))


def measure(argv: Sequence[str], count: int) -> Speeds:
    """Start processes, train, and return the speeds.

    Args:
        argv: the arguments of the command line.
        count: the number of processes.

    Raises:
        RuntimeError: if a process fails; the message has the end of their error output.
    """
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "speeds.json"
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count),
             "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
             "-m", "benchmarks.teamwork", *argv, "--into", str(into)],
            env=os.environ | ONE_THREAD, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{count} processes failed: {done.stderr[-2000:]}")
        speeds: Speeds = json.loads(into.read_text())
        return speeds


def on_few_cores(count: int) -> str:
    """Text about the number of cores if there are fewer cores than processes, else empty."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    return f" on {cores} core{'s' * (cores > 1)}" if cores < count else ""


def between(data: KGDataset) -> float:
    """The share of edges between the two parts, if METIS partitions the entities into two."""
    part = metis(data.train, data.num_entities, 2)
    head, _, tail = data.train.unbind(1)
    return float((part[head] != part[tail]).double().mean())


def summary(argv: Sequence[str]) -> list[common.Row]:
    """The rows that compare two processes with one, for the arguments of a command line."""
    one, two = measure(argv, 1), measure(argv, 2)
    shared = on_few_cores(2)
    cut = between(common.dataset(arguments().parse_args(argv)))
    return [
        common.Row(
            f"training with 2 processes{shared}: {name}",
            f"{two[name]:,.0f} edges a second",
            f"1 process: {one[name]:,.0f}",
            f"{two[name] / one[name]:.2f} times",
        )
        for name in one
    ] + [
        common.Row(
            "edges between the parts of 2 processes", f"{100 * cut:.0f} %", "random parts: 50 %",
            f"{cut / 0.5:.2f} times",
        )
    ]  # fmt: skip


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--steps", type=common.positive, default=20, metavar="N", help="timed steps (%(default)s)"
    )
    parser.add_argument(
        "--processes", type=common.positive, nargs="+", default=[1, 2], metavar="N",
        help="numbers of processes (%(default)s); the first is the baseline of the others",
    )  # fmt: skip
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # for the processes
    parser.set_defaults(repeats=3)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, start the processes, and print; with `--into`, be such a process."""
    argv = sys.argv[1:] if argv is None else argv
    args = arguments().parse_args(argv)
    if args.into:
        work(args)
        return 0
    data = common.dataset(args)
    common.describe(data)
    if shared := on_few_cores(max(args.processes)):
        common.console.print(f"[bold]The processes run{shared}: do not expect a speed-up.[/]")
    measured = {count: measure(argv, count) for count in args.processes}
    first = measured[args.processes[0]]
    rows = [
        [name, str(count), f"{speeds[name]:,.0f}", f"{speeds[name] / first[name]:.2f}"]
        for name in first
        for count, speeds in measured.items()
    ]
    common.print_table(
        f"training, one thread per process, {args.steps} steps",
        ["", "processes", "edges a second", f"speed-up over {args.processes[0]}"],
        rows,
    )
    common.console.print(
        f"With METIS, {100 * between(data):.0f} % of the edges are between two parts."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
