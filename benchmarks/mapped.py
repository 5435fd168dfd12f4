"""Tables that are mapped to files, compared with tables in memory.

kgtool maps tables that are too large for memory. The benchmark trains, saves, loads and ranks the
same model both ways, each in its own process: 4,096 edges a step, 4,096 sampled negatives, Adagrad,
no encoder layer. With mapping, the process assumes that its machine has twice the memory of one
table. So it maps the embeddings and the optimiser's sums while it trains, and reads the weights
from the checkpoint file. The benchmark measures the cost of mapping if the system has enough memory
to keep the pages. With less memory, the cost of the disk is added.

    python -m benchmarks.mapped --data GRAPH --dim 256
    python -m benchmarks.mapped --synthetic --entities 200000 --triples 1000000
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Import first: kgtool must be imported before torch.
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
    """The measurements of tables in memory, or of mapped tables.

    Attributes:
        step, ranking: seconds of a training step, and of ranking valid.
        own: growth of the process's own memory in training, in bytes, without mapped files.
        mrr: the MRR on valid.
    """

    step: float
    ranking: float
    own: int | None
    mrr: float


def config(dim: int) -> Config:
    """The configuration of the model."""
    return parse_config(
        {
            "dim": dim,
            "encoder": {"layers": 0},
            "one_path": {
                "batch_size": DRAWN,
                "training": "negative_sampling",
                "num_negatives": DRAWN,
            },
            "training": {"optimizer": "adagrad", "learning_rate": 0.1},
        }
    )


def work(args: argparse.Namespace, mapped: bool) -> Found:
    """Train some steps, save, load and rank."""
    common.as_in_training()
    data, settings = common.dataset(args), config(args.dim)
    if mapped:
        machine = 2 * _table_bytes(args.dim, data.num_entities)
        setattr(memory, "machine_bytes", lambda: machine)  # noqa: B010
    with tempfile.TemporaryDirectory() as folder:
        before, path = common.own_bytes(), Path(folder) / "best.safetensors"
        updater = Updater(settings, data, Path(folder) / "owners")
        batches = updater.batches(updater.objective.order(settings.seed, 0))[: args.steps]

        def train() -> None:
            for rows in batches:
                updater.make_step(rows)

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
    """Measure with tables in memory, and with mapped tables.

    Raises:
        RuntimeError: if their MRRs differ.
    """
    plain, mapped = (common.in_own_process(work, args, way) for way in (False, True))
    if plain.mrr != mapped.mrr:
        raise RuntimeError(f"valid MRR {plain.mrr} in memory, {mapped.mrr} mapped")
    return plain, mapped


def summary(folder: Path, triples: int) -> list[common.Row]:
    """The rows for a generated graph."""
    place = str(scale.generate(folder, triples))
    args = arguments().parse_args(["--data", place, "--repeats", "3"])
    return rows(args, *measure(args))


def rows(args: argparse.Namespace, plain: Found, mapped: Found) -> list[common.Row]:
    """The rows that compare mapped tables with tables in memory."""
    return [
        common.Row(
            f"a step with {DRAWN:,} sampled negatives, {args.dim} dims, mapped tables",
            f"{1e3 * mapped.step:.0f} ms",
            f"in memory: {1e3 * plain.step:.0f} ms",
            f"{mapped.step / plain.step:.2f} times",
        ),
        common.Row(
            "ranking with weights in the checkpoint file",
            f"{mapped.ranking:.2f} s",
            f"in memory: {plain.ranking:.2f} s",
            f"{mapped.ranking / plain.ranking:.2f} times",
        ),
        common.Row(
            "the process's own memory in training, mapped tables",
            common.megabytes(mapped.own),
            f"in memory: {common.megabytes(plain.own)}",
            f"{mapped.own / plain.own:.2f} times" if mapped.own and plain.own else "",
        ),
    ]


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--dim",
        type=common.positive,
        default=256,
        metavar="N",
        help="dims of embeddings (%(default)s)",
    )
    parser.add_argument(
        "--steps", type=common.positive, default=20, metavar="N", help="timed steps (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print the table, and return the exit status."""
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
