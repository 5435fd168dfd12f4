"""Training by several processes: edges a second, and how many times those of one.

Started by `torchrun` with 1 and with more processes on this machine, each of one thread; the model,
the data and what a step asks for in all are the same. An edge counts when it is asked for. Dense:
the one-path decoder, (head, relation) queries against all entities, 1,024 a step. Drawn: 4,096
edges a step against as many entities, which each process draws and whose rows are spread over all.
All paths: passes from 16 heads a step.

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

# First: kgtool is to be imported before torch.
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
HEADS = 256  # whose targets are counted
Speeds = dict[str, float]


def configs() -> dict[str, Config]:
    """What is trained."""
    one: dict[str, Any] = {"dim": 64, "encoder": {"layers": 0}}
    drawn = {"batch_size": 4096, "negatives": 4096}
    kinds: dict[str, dict[str, Any]] = {
        "one path, dense": one | {"one_path": {"batch_size": 1024}},
        "one path, drawn": one | {"one_path": drawn, "training": {"optimizer": "adagrad"}},
        "all paths": {"dim": 32, "all_paths": {"steps": 3, "batch_size": 16}},
    }
    return {name: parse_config(settings) for name, settings in kinds.items()}


def edges_a_row(updater: Updater, data: KGDataset, order: Tensor) -> float:
    """How many edges a row of an epoch's order asks for, in the mean."""
    objective = updater.objective
    if isinstance(objective, OnePathObjective):
        return 2 * len(data.train) / len(objective.answers)
    if isinstance(objective, AllPathsObjective):
        heads = order[:HEADS]
        return sum(len(objective.sample(p).tail) for p in objective.parts(heads)) / len(heads)
    return 1.0


def speed(config: Config, data: KGDataset, owners: Path, steps: int, repeats: int) -> float:
    """Edges a second of training, of all processes together."""
    updater = Updater(config, data, owners)
    order = updater.objective.order(config.seed, 0)
    batches = updater._batches(order)[:steps]

    def train() -> None:
        process_group.barrier()
        for rows in batches:
            updater._step(rows)
        process_group.barrier()

    seconds, _ = common.median_seconds(train, repeats)
    asked = torch.tensor(sum(len(rows) for rows in batches))  # of spread rows, not all have as many
    process_group.all_reduce([asked])
    return int(asked) * edges_a_row(updater, data, order) / seconds


def work(args: argparse.Namespace) -> None:
    """In each process of a team: train, and let the first write down the speeds."""
    with process_group.joined_group():
        common.as_in_training()
        data = common.dataset(args)
        found = {
            name: speed(config, data, args.into.with_name("owners"), args.steps, args.repeats)
            for name, config in configs().items()
        }
        if process_group.rank() == 0:
            args.into.write_text(json.dumps(found))


def measure(argv: Sequence[str], count: int) -> Speeds:
    """The speeds of a team of so many processes.

    Args:
        argv: the arguments of the command line.
        count: processes.

    Raises:
        RuntimeError: when they fail, with the end of what they said.
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
    """What to say of so many processes where there are fewer cores for them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    return f" on {cores} core{'s' * (cores > 1)}" if cores < count else ""


def between(data: KGDataset) -> float:
    """The share of edges that join the two parts that METIS makes of the entities."""
    part = metis(data.train, data.num_entities, 2)
    head, _, tail = data.train.unbind(1)
    return float((part[head] != part[tail]).double().mean())


def summary(argv: Sequence[str]) -> list[common.Row]:
    """Two processes beside one, for the arguments of a command line."""
    one, two = measure(argv, 1), measure(argv, 2)
    shared = on_few_cores(2)
    cut = between(common.dataset(arguments().parse_args(argv)))
    return [
        common.Row(
            f"training by 2 processes{shared}: {name}",
            f"{two[name]:,.0f} edges a second",
            f"1 process: {one[name]:,.0f}",
            f"{two[name] / one[name]:.2f} times",
        )
        for name in one
    ] + [
        common.Row(
            "edges between the entities of 2 processes", f"{100 * cut:.0f} %", "at random: 50 %",
            f"{cut / 0.5:.2f} times",
        )
    ]  # fmt: skip


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--steps", type=common.positive, default=20, metavar="N", help="timed (%(default)s)"
    )
    parser.add_argument(
        "--processes", type=common.positive, nargs="+", default=[1, 2], metavar="N",
        help="of each team (%(default)s); the first is what others are compared with",
    )  # fmt: skip
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # told to a team
    parser.set_defaults(repeats=3)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, start the teams, print; or be one of a team."""
    argv = sys.argv[1:] if argv is None else argv
    args = arguments().parse_args(argv)
    if args.into:
        work(args)
        return 0
    data = common.dataset(args)
    common.describe(data)
    if shared := on_few_cores(max(args.processes)):
        common.console.print(f"[bold]the processes are{shared}: no speed-up is to be expected[/]")
    found = {count: measure(argv, count) for count in args.processes}
    first = found[args.processes[0]]
    rows = [
        [name, str(count), f"{speeds[name]:,.0f}", f"{speeds[name] / first[name]:.2f}"]
        for name in first
        for count, speeds in found.items()
    ]
    common.print_table(
        f"training, processes of one thread, {args.steps} steps",
        ["", "processes", "edges a second", f"times {args.processes[0]}"],
        rows,
    )
    common.console.print(
        f"METIS leaves {100 * between(data):.0f} % of the edges between two processes"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
