"""Link prediction for new entities: extend a run, continue its training, or train from scratch.

The benchmark removes a share of the entities, with all their edges, and trains a model on the rest.
Then it adds half of the removed train edges, and tests on the other half, on both sides. It also
tests on the old entities' test triples, where the MRR should not fall.

    python -m benchmarks.extending configs/families.toml training.epochs=4
    python -m benchmarks.extending configs/families-one-path.toml dim=64 training.epochs=20
    python -m benchmarks.extending configs/fb15k-237-one-path.toml --data FB15k-237.tar.gz dim=64 \
        encoder.layers=0 training.epochs=10 training.validate_every=10
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import torch
from torch import Tensor

import kgtool
from kgtool import KGDataset, Run, evaluate_model
from kgtool.data.loaders.write import write_dataset, write_triples
from kgtool.models.factory import build_model
from kgtool.models.model import Model, OnePathModel
from kgtool.runs.run import BEST
from kgtool.storage.checkpoint import load_tensors
from kgtool.training.warm_start import carry

LEAST_EDGES = 4  # edges of a new entity: it needs some to be added and some to be tested
MOST_TESTED = 2000  # tested triples of each kind


def new_entities(data: KGDataset, share: float, draw: torch.Generator) -> Tensor:
    """`(num_entities,)` bool: a random share of the entities, all with enough edges."""
    degree = torch.bincount(data.train[:, [0, 2]].flatten(), minlength=data.num_entities)
    able = torch.nonzero(degree >= LEAST_EDGES).flatten()
    new = torch.zeros(data.num_entities, dtype=torch.bool)
    new[able[torch.randperm(len(able), generator=draw)[: int(share * len(degree))]]] = True
    return new


def some(triples: Tensor, draw: torch.Generator) -> Tensor:
    """A random sample of at most `MOST_TESTED` triples."""
    return triples[torch.randperm(len(triples), generator=draw)[:MOST_TESTED]]


class Exam:
    """Ranks the held-out triples of new entities, and test triples of old entities.

    Args:
        grown: an extended run's data.
        held_out: `(n, 3)` held-out triples of one new and one old entity.
        new: the first id of the new entities.
        draw: draws the sample of triples.
    """

    def __init__(self, grown: KGDataset, held_out: Tensor, new: int, draw: torch.Generator) -> None:
        # The filter holds all true triples, including the held-out ones, for all models.
        known = replace(grown, valid=torch.cat([grown.valid, held_out]))
        sample = some(held_out, draw)
        of_new = sample[:, 0] >= new
        self.heads = replace(known, test=sample[of_new])
        self.tails = replace(known, test=sample[~of_new])
        self.old = replace(known, test=some(grown.test, draw))

    def row(self, name: str, model: Model, seconds: float | None) -> list[str]:
        """A row: name; MRR with a new entity in the query, as the answer, of old ones; seconds."""
        scorer = model.eval().scorer()
        heads, tails = (
            evaluate_model(scorer, d, "test").filtered for d in (self.heads, self.tails)
        )
        n, m = len(self.heads.test), len(self.tails.test)

        def mean(of_heads: str, of_tails: str) -> float:
            mrr = [metrics[side]["realistic"]["mrr"] for metrics, side in
                   ((heads, of_heads), (tails, of_tails))]  # fmt: skip
            return (n * mrr[0] + m * mrr[1]) / (n + m)

        old = evaluate_model(scorer, self.old, "test").mrr
        figures = (mean("tail", "head"), mean("head", "tail"), old)
        took = "" if seconds is None else f"{seconds:.1f}"
        return [name, *(f"{figure:.3f}" for figure in figures), took]


def other_starts(model: OnePathModel, new: int) -> dict[str, Callable[[], None]]:
    """Other ways to initialise the embedding of a new entity."""
    rows, bias, graph = model.encoder.entities, model.decoder.bias, model.graph

    def put(value: Tensor) -> None:
        rows[new:] = value
        bias[new:] = bias[:new].mean()

    def neighbours() -> None:
        to_new = (graph.head < new) & (graph.tail >= new)
        head, tail = graph.head[to_new], graph.tail[to_new] - new
        sums = torch.zeros(len(rows) - new, rows.shape[1]).index_add_(0, tail, rows[head])
        count = torch.bincount(tail, minlength=len(sums)).clamp(min=1)
        put(sums / count.unsqueeze(1))

    return {
        "initial: random": lambda: None,
        "initial: zeros": lambda: put(torch.zeros(rows.shape[1])),
        "initial: mean of all": lambda: put(rows[:new].mean(0)),
        "initial: mean of neighbours": neighbours,
    }


def main() -> int:
    """Parse the arguments, train, extend, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a TOML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--data", help="data set (by default the one that the configuration names)")
    parser.add_argument(
        "--share", type=float, default=0.05, help="share of new entities (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_intermixed_args()
    config = kgtool.load_config(args.config, args.overrides)
    data = kgtool.load_dataset(args.data or config.data or common.fail("pass --data"))
    common.describe(data)
    draw = torch.Generator().manual_seed(args.seed)
    new = new_entities(data, args.share, draw)
    touched = {name: new[data.split(name)[:, [0, 2]]].any(1) for name in ("train", "valid", "test")}
    edges = data.train[touched["train"]]
    given = torch.rand(len(edges), generator=draw) < 0.5
    with tempfile.TemporaryDirectory() as folder:
        return compare(config, data, touched, edges, given, Path(folder), draw)


def compare(
    config: kgtool.Config, data: KGDataset, touched: dict[str, Tensor], edges: Tensor,
    given: Tensor, folder: Path, draw: torch.Generator,
) -> int:  # fmt: skip
    """Train without the new entities, extend, continue, train from scratch; print the table."""
    train, valid, test = (data.split(name)[~of_new] for name, of_new in touched.items())
    rest = replace(data, train=train, valid=valid, test=test)
    # Relations that the rest lacks cannot be added without training.
    able = torch.isin(edges[:, 1], torch.cat([train, valid, test])[:, 1])
    edges, given = edges[able], given[able]
    write_dataset(rest, folder / "base")
    write_triples(folder / "given.tsv", edges[given], data.vocabulary)
    epochs = config.training.epochs
    few = max(1, round(epochs / 10))

    def trained(
        name: str, on: KGDataset, epochs: int, start: Run | None = None
    ) -> tuple[Run, float]:
        training = config.training.model_copy(
            update={"epochs": epochs, "validate_every": min(epochs, config.training.validate_every)}
        )
        settings = config.model_copy(update={"training": training})
        begun = time.perf_counter()
        run = kgtool.train(settings, on, folder / name, progress=False, init_from=start)
        return run, time.perf_counter() - begun

    base, took = trained("run", kgtool.load_dataset(folder / "base"), epochs)
    begun = time.perf_counter()
    grown = kgtool.extend(base, folder / "given.tsv", folder / "grown")
    extending = time.perf_counter() - begun
    full = grown.dataset()
    new = base.read_info()["entities"]
    ids, relation_ids = full.vocabulary.entity_ids, full.vocabulary.relation_ids
    to_new = torch.tensor([ids.get(label, -1) for label in data.vocabulary.entities])
    relation = torch.tensor([relation_ids.get(label, -1) for label in data.vocabulary.relations])
    left = edges[~given]
    held_out = torch.stack([to_new[left[:, 0]], relation[left[:, 1]], to_new[left[:, 2]]], dim=1)
    one_new = (held_out[:, [0, 2]] >= new).sum(1) == 1
    held_out = held_out[one_new & (held_out >= 0).all(1)]
    exam = Exam(full, held_out, new, draw)
    bare = replace(full, train=base.dataset().train)
    weights = load_tensors(base.path / BEST)[0]

    def carried(over: KGDataset) -> Model:
        model = build_model(config, over)
        carry(model, weights, base.vocabulary, over.vocabulary, base.path)
        return model

    rows = [exam.row(f"the run, {epochs} epochs, without new edges", carried(bare), took)]
    model = carried(full)
    if isinstance(model, OnePathModel) and model.encoder.entity_init == "embedding":
        for name, act in other_starts(model, new).items():
            with torch.no_grad():
                act()
            rows.append(exam.row(name, model, None))
    rows.append(exam.row("extended", grown.model(full), extending))
    on, took = trained("on", full, few, grown)
    rows.append(exam.row(f"extended, {few} more epochs", on.model(full), took))
    short, took = trained("short", full, few)
    rows.append(exam.row(f"from scratch, {few} epochs", short.model(full), took))
    anew, took = trained("anew", full, epochs)
    rows.append(exam.row(f"from scratch, {epochs} epochs", anew.model(full), took))
    common.print_table(
        f"MRR; {full.num_entities - new:,} new entities, {int(given.sum()):,} new edges, "
        f"{len(exam.heads.test) + len(exam.tails.test):,} of {len(held_out):,} triples tested",
        ["", "new in the query", "new as answer", "old", "seconds"],
        rows,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
