"""Tables that are mapped to files, as where memory has no room for them, beside tables in memory.

The same model of drawn entities (4,096 edges a step against as many entities, Adagrad, no layer) is
trained, saved, read again and ranked, each way in a process of its own. Mapped, a process thinks
that its machine has twice the memory of one table: embeddings and their sums are mapped while it
trains, and weights are read where their checkpoint has them. What it measures is what mapping costs
where the system has room to keep the pages; where it has none, the disk adds to it.

    python -m benchmarks.mapped --data GRAPH --dim 256
    python -m benchmarks.mapped --synthetic --entities 200000 --triples 1000000
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# First: kgtool is to be imported before torch.
from benchmarks import common, scale

# isort: split
from kgtool.config import Config, parse_config
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.factory import load_model
from kgtool.ops.runtime import memory
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.training.step import Updater

DRAWN = 4096


class Found(NamedTuple):
    """What one way took.

    Attributes:
        step, ranking: seconds of a step, and of ranking valid.
        own: bytes that the process alone held when it had trained, over those before.
        mrr: of valid.
    """

    step: float
    ranking: float
    own: int | None
    mrr: float


def config(dim: int) -> Config:
    """What is trained."""
    return parse_config(
        {
            "dim": dim,
            "encoder": {"layers": 0},
            "one_path": {"batch_size": DRAWN, "negatives": DRAWN},
            "training": {"optimizer": "adagrad", "learning_rate": 0.1},
        }
    )


def work(args: argparse.Namespace, mapped: bool) -> Found:
    """Train some steps, save, read and rank."""
    common.as_in_training()
    data, settings = common.dataset(args), config(args.dim)
    if mapped:
        there = 2 * _table_bytes(args.dim, data.num_entities)
        setattr(memory, "machine_bytes", lambda: there)  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        before, path = common.own_bytes(), Path(folder) / "best.safetensors"
        updater = Updater(settings, data, Path(folder) / "owners")
        batches = updater._batches(updater.objective.order(settings.seed, 0))[: args.steps]

        def train() -> None:
            for rows in batches:
                updater._step(rows)

        step, _ = common.median_seconds(train, args.repeats)
        after = common.own_bytes()
        save_tensors(path, updater.model.state_dict(), {})
        model = load_model(settings, data, load_tensors(path)[0], path)
        ranking, mrr = common.median_seconds(
            lambda: evaluate_model(model.scorer(), data, "valid").mrr, args.repeats
        )
    own = None if after is None or before is None else after - before
    return Found(step / len(batches), ranking, own, mrr)


def _table_bytes(dim: int, num_entities: int) -> int:
    return 4 * dim * num_entities


def measure(args: argparse.Namespace) -> tuple[Found, Found]:
    """In memory, and mapped.

    Raises:
        RuntimeError: when they do not find the same.
    """
    plain, mapped = (common.in_own_process(work, args, way) for way in (False, True))
    if plain.mrr != mapped.mrr:
        raise RuntimeError(f"valid MRR {plain.mrr} in memory, {mapped.mrr} mapped")
    return plain, mapped


def summary(folder: Path, triples: int) -> list[common.Row]:
    """Of a generated graph."""
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3"])
    return rows(args, *measure(args))


def rows(args: argparse.Namespace, plain: Found, mapped: Found) -> list[common.Row]:
    """Mapped beside in memory."""
    return [
        common.Row(
            f"a step of {DRAWN:,} drawn entities, {args.dim} dims, tables mapped",
            f"{1e3 * mapped.step:.0f} ms",
            f"in memory: {1e3 * plain.step:.0f} ms",
            f"{mapped.step / plain.step:.2f} times",
        ),
        common.Row(
            "ranking by weights that stay in their checkpoint",
            f"{mapped.ranking:.2f} s",
            f"in memory: {plain.ranking:.2f} s",
            f"{mapped.ranking / plain.ranking:.2f} times",
        ),
        common.Row(
            "memory of training that is the process's own, tables mapped",
            common.megabytes(mapped.own),
            f"in memory: {common.megabytes(plain.own)}",
            f"{mapped.own / plain.own:.2f} times" if mapped.own and plain.own else "",
        ),
    ]


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--dim", type=common.positive, default=256, metavar="N", help="of embeddings (%(default)s)"
    )
    parser.add_argument(
        "--steps", type=common.positive, default=20, metavar="N", help="timed (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, time, and return the exit status."""
    args = arguments().parse_args(argv)
    data = common.dataset(args)
    common.describe(data)
    table = common.megabytes(_table_bytes(args.dim, data.num_entities))
    common.print_table(
        f"{args.steps} steps, a table of {table}",
        ["", "mapped", "", "ratio"],
        [list(row[:4]) for row in rows(args, *measure(args))],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
