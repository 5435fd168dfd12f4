"""Training: triples a second, kgtool beside PyKEEN, the same model in the same process.

The model is DistMult: `⟨e_h ⊙ w_r, e_t⟩` with a row `w_r` for each relation and each inverse, of as
many dims, without dropout, constraint or regulariser, trained in float32 by Adagrad (fused) on as
many threads. A triple is asked for its tail and for its head; both count as one triple. Times are
those of epochs, batches drawn and updates made, nothing validated or written; the first is untimed.

- "All entities": an answer is told from all. kgtool's `k-vs-all` softmax, PyKEEN's LCWA with
  cross-entropy: batches of (head, relation) pairs, and the same loss, which is compared. (kgtool's
  default, `1-vs-all`, makes the same products.) PyKEEN's DistMult makes a tensor of pairs,
  entities and dims on the way: it works through a batch a few pairs at a time, and updates once.
- "Drawn entities": an answer is told from K of them by a softmax. PyKEEN's sLCWA draws K tails for
  each edge of a batch, and every row of the tables has a gradient. kgtool's `one_path.negatives`
  draws K for all edges of a batch, weighs them by how likely they were, leaves out known answers,
  and has gradients of the rows that it read: as many negatives an edge, not as many draws.

kgtool's score has also a bias `b_t` of the tail, which PyKEEN's lacks.

    python -m benchmarks.throughput --data FB15k-237.tar.gz --part 20000
    python scripts/generate_large.py GRAPH --entities 240000 --triples 1000000
    python -m benchmarks.throughput --data GRAPH --part 20000 --only drawn
"""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

# First: kgtool is to be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
import torch
from torch import nn

from kgtool import KGDataset
from kgtool.config import Config, parse_config
from kgtool.models.model import KGModel
from kgtool.training.objectives import OnePathObjective
from kgtool.training.step import Updater

TOLERANCE = 1e-4
RATE = 0.1  # Adagrad's
PRODUCT = 2**25  # numbers in the tensor that PyKEEN makes of pairs, entities and dims: 128 MiB
Negatives = Literal["all", "drawn"]
NEGATIVES: tuple[Negatives, ...] = ("all", "drawn")


@dataclass(frozen=True)
class Task:
    """What is trained, alike for both.

    Attributes:
        data: train is asked.
        dim: d.
        batch: pairs a step, or edges where negatives are drawn.
        drawn: K, entities that an answer is told from; 0 for all.
        repeats: timed epochs.
        seed: of all that is random.
    """

    data: KGDataset
    dim: int
    batch: int
    drawn: int
    repeats: int
    seed: int

    @property
    def name(self) -> str:
        """Which entities an answer is told from."""
        return f"{self.drawn:,} drawn entities" if self.drawn else "all entities"

    @property
    def config(self) -> Config:
        """What kgtool is told."""
        told: dict[str, object] = {"negatives": self.drawn} if self.drawn else {}
        one_path = {
            "cell": "product", "input_dropout": 0.0, "output_dropout": 0.0, "hide_targets": False,
            "batch_size": self.batch, **(told or {"targets": "k-vs-all"}),
        }  # fmt: skip
        training = {
            "epochs": self.repeats + 1, "optimizer": "adagrad", "learning_rate": RATE,
            "precision": "float32", "warmup_steps": 0, "decay": "none",
        }  # fmt: skip
        return parse_config(
            {
                "seed": self.seed, "dim": self.dim, "encoder": {"layers": 0},
                "one_path": one_path, "training": training,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Triples a second of a task; PyKEEN's is None where it is not installed."""

    name: str
    kgtool: float
    pykeen: float | None


def kgtool_seconds(task: Task) -> float:
    """Of an epoch of kgtool's training."""
    updater = Updater(task.config, task.data)

    def epoch() -> None:
        order = updater.objective.order(task.seed, updater.epoch)
        for rows in updater._batches(order):
            updater._step(rows)
            updater.step += 1
        updater.epoch += 1

    return common.median_seconds(epoch, task.repeats)[0]


def pykeen_parts(task: Task) -> tuple[Any, Any]:
    """PyKEEN's triples and model."""
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
    """Of an epoch of PyKEEN's training."""
    factory, model = pykeen_parts(task)
    training: Any = importlib.import_module("pykeen.training")
    if task.drawn:
        sampler = {"num_negs_per_pos": task.drawn, "corruption_scheme": ["tail"]}
        kind, how, rows = training.SLCWATrainingLoop, {"negative_sampler_kwargs": sampler}, None
    else:
        kind, how = training.LCWATrainingLoop, {}
        rows = min(task.batch, max(1, PRODUCT // (task.data.num_entities * task.dim)))
    optimizer = torch.optim.Adagrad(model.get_grad_params(), lr=RATE, fused=True)
    loop = kind(
        model=model, triples_factory=factory, optimizer=optimizer,
        automatic_memory_optimization=False,  # it would try out other sizes of a batch
        **how,
    )  # fmt: skip
    ends: list[float] = []
    base: Any = importlib.import_module("pykeen.training.callbacks").TrainingCallback
    noted = {"post_epoch": lambda *_, **__: ends.append(time.perf_counter())}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory'", UserWarning)  # where there is no GPU
        loop.train(
            factory, num_epochs=task.repeats + 1, batch_size=task.batch, sub_batch_size=rows,
            use_tqdm=False, callbacks=type("Ends", (base,), noted)(),
        )  # fmt: skip
    return float(torch.tensor(ends, dtype=torch.double).diff().median())


def difference(task: Task, pairs: int = 64) -> float:
    """By what part of it the two losses of the same weights and pairs differ; of all entities."""
    updater = Updater(task.config, task.data)
    model, objective = updater.model, updater.objective
    assert isinstance(model, KGModel)
    assert isinstance(objective, OnePathObjective)
    for table in (model.encoder.entities, model.encoder.relations):
        nn.init.normal_(table)  # as drawn for training they say little, and any loss is log N
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
            # A relation, then its inverse.
            (theirs.relation_representations, torch.stack(relations.chunk(2), 1).flatten(0, 1)),
        )
        for (their,), mine in weights:
            next(their.parameters()).copy_(mine)
        head, relation = answers.hr[rows].unbind(1)
        count = task.data.num_relations
        scores = theirs.score_t(torch.stack([head, relation % count * 2 + relation // count], 1))
        loss = theirs.loss.process_lcwa_scores(scores, labels)
    return float(abs(ours - loss) / loss)


def part_of(data: KGDataset, count: int | None, seed: int) -> KGDataset:
    """The data with so many drawn train triples; all entities stay."""
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    return replace(data, train=data.train[drawn[:count]]) if count else data


def measure(args: argparse.Namespace, data: KGDataset) -> list[Speed]:
    """Time each kind of negatives, with kgtool and then, where it is installed, with PyKEEN.

    Raises:
        ValueError: where their losses differ.
    """
    with_pykeen = common.installed("pykeen")
    found = []
    for one in [args.only] if args.only else NEGATIVES:
        drawn = args.negatives if one == "drawn" else 0
        task = Task(data, args.dim, args.batch, drawn, args.repeats, args.seed)
        ours, theirs = kgtool_seconds(task), None
        if with_pykeen:
            theirs = pykeen_seconds(task)
            if not drawn and (off := difference(task)) > TOLERANCE:
                raise ValueError(f"the losses differ by {off:.1e} of PyKEEN's: no fair comparison")
        count = len(data.train)
        found.append(Speed(task.name, count / ours, count / theirs if theirs else None))
    return found


def summary(argv: Sequence[str]) -> list[common.Row]:
    """Both kinds of negatives, for the arguments of a command line."""
    common.as_in_training()
    args = arguments().parse_args(argv)
    data = part_of(common.dataset(args), args.part, args.seed)
    rows = []
    for one in measure(args, data):
        beside, ratio = "PyKEEN is not installed: pip install -e '.[benchmarks]'", ""
        if one.pykeen:
            beside = f"PyKEEN: {one.pykeen:,.0f}"
            ratio = f"{one.kgtool / one.pykeen:.1f} times as fast"
        what = f"training DistMult, answers told from {one.name}"
        rows.append(common.Row(what, f"{one.kgtool:,.0f} triples a second", beside, ratio))
    return rows


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=64, help="d (%(default)s)")
    parser.add_argument(
        "--batch", type=common.positive, default=1024, metavar="N",
        help="pairs or edges a step (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--negatives", type=common.positive, default=256, metavar="K",
        help="drawn entities that an answer is told from (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--part", type=common.positive, metavar="N", help="only N drawn train triples; else all"
    )
    parser.add_argument("--only", choices=NEGATIVES, help="which entities answers are told from")
    parser.set_defaults(repeats=3)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, time, and return the exit status: 1 where the losses differ."""
    args = arguments().parse_args(argv)
    data = part_of(common.dataset(args), args.part, args.seed)
    common.describe(data)
    try:
        found = measure(args, data)
    except ValueError as error:
        console.print(f"[bold red]{error}[/]")
        return 1
    rows = []
    for speed in found:
        rows.append([f"kgtool, {speed.name}", f"{speed.kgtool:,.0f}", "1"])
        if speed.pykeen:
            ratio = f"{speed.pykeen / speed.kgtool:.4f}"
            rows.append([f"PyKEEN, {speed.name}", f"{speed.pykeen:,.0f}", ratio])
    common.print_table(
        f"training, {args.dim} dims, {args.batch:,} a batch, median of {args.repeats} epochs",
        ["answers told from", "triples a second", "times kgtool"],
        rows,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
