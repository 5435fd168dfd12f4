"""Training: triples a second, kgtool compared with PyKEEN, the same model in the same process.

The model is DistMult, `⟨e_h ⊙ w_r, e_t⟩`, with a row `w_r` for each relation and each inverse. Both
libraries use the same number of dims and threads, float32, fused Adagrad, and no dropout,
constraint or regulariser. A triple gives a tail query and a head query; both count as one triple.
An epoch is timed with its sampling of batches and its updates, without validation and files. The
first epoch is not timed.

- "All entities": the softmax is over all entities. kgtool uses `KvsAll`, PyKEEN uses LCWA with
  cross-entropy. Batches hold (head, relation) pairs. The benchmark checks that the losses are
  equal. (kgtool's default, `1vsAll`, computes the same products.) PyKEEN's DistMult makes a
  tensor of pairs × entities × dims. So it processes a batch a few pairs at a time, and updates
  once.
- "Sampled negatives": the softmax is over the answer and K negatives. PyKEEN's sLCWA samples K
  tails for each edge of a batch, and its gradient has all rows of the tables. kgtool's
  negative sampling samples K entities for all edges of a batch, weights them by the inverse of
  their probability, masks known answers, and its gradient has only the rows that were read. The
  number of negatives per edge is the same, the number of samples is not.

kgtool's score also has a bias `b_t` of the tail; PyKEEN's has none.

    python -m benchmarks.throughput --data FB15k-237.tar.gz --part 20000
    python scripts/generate_large.py GRAPH --entities 240000 --triples 1000000
    python -m benchmarks.throughput --data GRAPH --part 20000 --only sampled
"""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

# Import first: kgtool must be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
import torch
from torch import nn

from kgtool import KGDataset
from kgtool.config import Config, parse_config
from kgtool.models.model import OnePathModel
from kgtool.training.objectives import OnePathObjective
from kgtool.training.step import Updater

TOLERANCE = 1e-4
RATE = 0.1  # Adagrad's learning rate
PRODUCT = 2**25  # numbers in PyKEEN's tensor of pairs × entities × dims: 128 MiB
Negatives = Literal["all", "sampled"]
NEGATIVES: tuple[Negatives, ...] = ("all", "sampled")


@dataclass(frozen=True)
class Task:
    """The training task, the same for both libraries.

    Attributes:
        data: the data; the model trains on train.
        dim: d.
        batch: (head, relation) pairs a step, or edges a step with sampled negatives.
        negatives: K, the number of sampled negatives; 0 for a softmax over all entities.
        repeats: the number of timed epochs.
        seed: the seed of all random numbers.
    """

    data: KGDataset
    dim: int
    batch: int
    negatives: int
    repeats: int
    seed: int

    @property
    def name(self) -> str:
        """The entities in the softmax."""
        return f"{self.negatives:,} sampled negatives" if self.negatives else "all entities"

    @property
    def config(self) -> Config:
        """kgtool's configuration."""
        sampled = {"training": "negative_sampling", "num_negatives": self.negatives}
        one_path = {
            "cell": "distmult", "input_dropout": 0.0, "output_dropout": 0.0,
            "remove_target_edges": "none", "batch_size": self.batch,
            **(sampled if self.negatives else {"training": "KvsAll"}),
        }  # fmt: skip
        training = {
            "epochs": self.repeats + 1, "optimizer": "adagrad", "learning_rate": RATE,
            "precision": "float32", "warmup_steps": 0, "lr_schedule": "constant",
        }  # fmt: skip
        return parse_config(
            {
                "seed": self.seed, "dim": self.dim, "encoder": {"layers": 0},
                "one_path": one_path, "training": training,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Triples a second of a task; PyKEEN's number is None if it is not installed."""

    name: str
    kgtool: float
    pykeen: float | None


def kgtool_seconds(task: Task) -> float:
    """The seconds of an epoch of kgtool's training."""
    updater = Updater(task.config, task.data)

    def epoch() -> None:
        order = updater.objective.order(task.seed, updater.epoch)
        for rows in updater.batches(order):
            updater.make_step(rows)
            updater.step += 1
        updater.epoch += 1

    return common.median_seconds(epoch, task.repeats)[0]


def pykeen_parts(task: Task) -> tuple[Any, Any]:
    """PyKEEN's triples factory and model."""
    factory: Any = importlib.import_module("pykeen.triples").CoreTriplesFactory(
        task.data.train, task.data.num_entities, task.data.num_relations,
        create_inverse_triples=True,
    )  # fmt: skip
    model: Any = importlib.import_module("pykeen.models").DistMult(
        triples_factory=factory, embedding_dim=task.dim, loss="CrossEntropy", random_seed=task.seed,
        entity_constrainer=None, regularizer=None,
    )  # fmt: skip
    return factory, model.to("cpu")


def pykeen_seconds(task: Task) -> float:
    """The seconds of an epoch of PyKEEN's training."""
    factory, model = pykeen_parts(task)
    training: Any = importlib.import_module("pykeen.training")
    if task.negatives:
        sampler = {"num_negs_per_pos": task.negatives, "corruption_scheme": ["tail"]}
        kind, how, rows = training.SLCWATrainingLoop, {"negative_sampler_kwargs": sampler}, None
    else:
        kind, how = training.LCWATrainingLoop, {}
        rows = min(task.batch, max(1, PRODUCT // (task.data.num_entities * task.dim)))
    optimizer = torch.optim.Adagrad(model.get_grad_params(), lr=RATE, fused=True)
    loop = kind(
        model=model, triples_factory=factory, optimizer=optimizer,
        automatic_memory_optimization=False,  # it would try other batch sizes
        **how,
    )  # fmt: skip
    ends: list[float] = []
    base: Any = importlib.import_module("pykeen.training.callbacks").TrainingCallback
    noted = {"post_epoch": lambda *_, **__: ends.append(time.perf_counter())}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory'", UserWarning)  # without a GPU
        loop.train(
            factory, num_epochs=task.repeats + 1, batch_size=task.batch, sub_batch_size=rows,
            use_tqdm=False, callbacks=type("Ends", (base,), noted)(),
        )  # fmt: skip
    return float(torch.tensor(ends, dtype=torch.double).diff().median())


def difference(task: Task, pairs: int = 64) -> float:
    """The relative difference of the two losses over all entities, for equal weights and pairs."""
    updater = Updater(task.config, task.data)
    model, objective = updater.model, updater.objective
    assert isinstance(model, OnePathModel)
    assert isinstance(objective, OnePathObjective)
    for table in (model.encoder.entities, model.encoder.relations):
        nn.init.normal_(table)  # with the initial weights of training, any loss is near log N
    answers, relations = objective.answers, model.encoder.relations.detach()
    rows = torch.arange(min(pairs, len(answers)))
    position, slot = answers.expand(rows)
    labels = torch.zeros(len(rows), task.data.num_entities)
    labels[position, answers.tails[slot]] = 1
    _, theirs = pykeen_parts(task)
    with torch.no_grad():
        ours, _ = objective.loss(rows)
        weights = (
            (theirs.entity_representations, model.encoder.entities),
            # PyKEEN's order: each relation, then its inverse.
            (theirs.relation_representations, torch.stack(relations.chunk(2), 1).flatten(0, 1)),
        )
        for (peer_table,), own_table in weights:
            next(peer_table.parameters()).copy_(own_table)
        head, relation = answers.hr[rows].unbind(1)
        count = task.data.num_relations
        scores = theirs.score_t(torch.stack([head, relation % count * 2 + relation // count], 1))
        loss = theirs.loss.process_lcwa_scores(scores, labels)
    return float(abs(ours - loss) / loss)


def part_of(data: KGDataset, count: int | None, seed: int) -> KGDataset:
    """The data with a random sample of train triples, and with all entities."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    return replace(data, train=data.train[order[:count]]) if count else data


def measure(args: argparse.Namespace, data: KGDataset) -> list[Speed]:
    """Time each kind of negatives, with kgtool and, if it is installed, with PyKEEN.

    Raises:
        ValueError: if their losses differ.
    """
    with_pykeen = common.installed("pykeen")
    speeds = []
    for one in [args.only] if args.only else NEGATIVES:
        negatives = args.negatives if one == "sampled" else 0
        task = Task(data, args.dim, args.batch, negatives, args.repeats, args.seed)
        ours, theirs = kgtool_seconds(task), None
        if with_pykeen:
            theirs = pykeen_seconds(task)
            if not negatives and (off := difference(task)) > TOLERANCE:
                raise ValueError(f"unfair comparison: the losses differ by {off:.1e} of PyKEEN's")
        count = len(data.train)
        speeds.append(Speed(task.name, count / ours, count / theirs if theirs else None))
    return speeds


def summary(argv: Sequence[str]) -> list[common.Row]:
    """The rows for both kinds of negatives, for the arguments of a command line."""
    common.as_in_training()
    args = arguments().parse_args(argv)
    data = part_of(common.dataset(args), args.part, args.seed)
    rows = []
    for one in measure(args, data):
        baseline, ratio = "PyKEEN is not installed: pip install -e '.[benchmarks]'", ""
        if one.pykeen:
            baseline = f"PyKEEN: {one.pykeen:,.0f}"
            ratio = f"{one.kgtool / one.pykeen:.1f} times as fast"
        what = f"training DistMult, softmax over {one.name}"
        rows.append(common.Row(what, f"{one.kgtool:,.0f} triples a second", baseline, ratio))
    return rows


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=64, help="d (%(default)s)")
    parser.add_argument(
        "--batch", type=common.positive, default=1024, metavar="N",
        help="pairs or edges a step (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--negatives", type=common.positive, default=256, metavar="K",
        help="sampled negatives (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--part", type=common.positive, metavar="N", help="a sample of N train triples; else all"
    )
    parser.add_argument(
        "--only", choices=NEGATIVES, help="only the softmax over all entities, or over negatives"
    )
    parser.set_defaults(repeats=3)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, and return the exit status: 1 if the losses differ."""
    args = arguments().parse_args(argv)
    data = part_of(common.dataset(args), args.part, args.seed)
    common.describe(data)
    try:
        speeds = measure(args, data)
    except ValueError as error:
        console.print(f"[bold red]{error}[/]")
        return 1
    rows = []
    for speed in speeds:
        rows.append([f"kgtool, {speed.name}", f"{speed.kgtool:,.0f}", "1"])
        if speed.pykeen:
            ratio = f"{speed.pykeen / speed.kgtool:.4f}"
            rows.append([f"PyKEEN, {speed.name}", f"{speed.pykeen:,.0f}", ratio])
    common.print_table(
        f"training, {args.dim} dims, {args.batch:,} a batch, median of {args.repeats} epochs",
        ["softmax over", "triples a second", "times kgtool"],
        rows,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
