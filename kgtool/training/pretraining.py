"""Pre-training: one model learns on many graphs, and then answers on graphs that it never saw.

Each step takes queries of one graph: a real one, by its share, or a synthetic one. Synthetic graphs
are a stream (`kgtool.data.synthetic`): a new one comes every few steps, and a step takes one of the
last few. The data set of the run is held out: its valid split says whether the model learns to
answer on other graphs.

With several processes, each draws its part of the queries of a step, all on the same graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kgtool.config import AllPathsConfig, Config
from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import load_dataset
from kgtool.data.loaders.column_order import check_columns
from kgtool.data.synthetic import synthetic_graph
from kgtool.distributed import process_group
from kgtool.errors import ConfigError, DataError, KGToolWarning
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.conditional import ConditionalModel
from kgtool.training.batches import PassBatch
from kgtool.training.objectives import ConditionalObjective

# A new synthetic graph comes every FRESH steps; a step takes one of the last RECENT.
FRESH, RECENT = 40, 12
# Steps of an epoch, where the configuration states none.
STEPS = 500
# Graphs with the same plain labels, such as numbers, have some triples in common by chance.
LEAK = 0.01
# A row is the number of a graph times this, plus the row of a query of that graph.
ROWS = 1 << 40


@dataclass(frozen=True, eq=False)
class Source:
    """A graph to learn from.

    Attributes:
        name: its path, or its name in the catalogue, as in `pretrain.graphs`.
        dataset: its triples; only train is used.
        share: its share of all steps, above 0 and at most 1.
    """

    name: str
    dataset: KGDataset
    share: float

    def __str__(self) -> str:
        data = self.dataset
        return (
            f"pre-training on {self.name}: {data.num_entities:,} entities, "
            f"{data.num_relations:,} relations, {len(data.train):,} triples, "
            f"{100 * self.share:.0f} % of the steps"
        )

    def info(self) -> dict[str, Any]:
        """The entry of `run.json`, JSON-ready."""
        fingerprint = self.dataset.fingerprint
        return {"name": self.name, "fingerprint": fingerprint, "share": round(self.share, 12)}


def load_sources(config: Config) -> list[Source]:
    """The real graphs that a configuration learns from; none without the section `[pretrain]`.

    Raises:
        DataError: for a graph that cannot be loaded or has no triples; it names the graph.
        ConfigError: if the processes cannot share the queries of a step evenly.
    """
    processes, size = process_group.world_size(), config.all_paths and config.all_paths.batch_size
    if config.pretrain and size and size % processes:
        raise ConfigError(
            f"{processes} processes share the queries of a step, and all_paths.batch_size = {size} "
            f"is not a multiple of {processes}. Remedy: set one that is."
        )
    found = []
    for name, share in config.pretrain.shares.items() if config.pretrain else ():
        try:
            dataset = load_dataset(name)
            check_columns(dataset)
        except DataError as error:
            raise DataError(f"pretrain.graphs, {name}: {error}") from error
        found.append(Source(name, dataset, share))
    return found


def check_held_out(sources: Sequence[Source], held_out: KGDataset) -> None:
    """Check that the sources are not the data set that the run holds out.

    A source that has a share of more than `LEAK` of its valid or test triples gives a
    `KGToolWarning`.

    Raises:
        DataError: if train of a source is train of that data set, by labels, in any order.
    """
    if not sources:
        return
    known = {split: AnswerIndex(held_out.split(split), held_out.num_relations) for split in SPLITS}
    for source in sources:
        triples = _in_labels_of(held_out.vocabulary, source.dataset)
        same = {split: int(index.contains(triples).sum()) for split, index in known.items()}
        if same["train"] == len(source.dataset.train) == len(held_out.train):
            raise DataError(
                f"pretrain.graphs, {source.name}: its train triples are those of {held_out.name}, "
                "which the run holds out to validate on other graphs. Remedy: leave it out, or "
                "hold out another data set by --data."
            )
        for split in SPLITS[1:]:
            if same[split] > LEAK * len(held_out.split(split)) and not process_group.rank():
                warnings.warn(
                    f"{source.name} has {same[split]:,} of the {len(held_out.split(split)):,} "
                    f"{split} triples of {held_out.name}: figures on {split} are too good. Remedy: "
                    "leave it out of pretrain.graphs, or hold out another data set.",
                    KGToolWarning,
                    stacklevel=2,
                )


def _in_labels_of(vocabulary: Vocabulary, source: KGDataset) -> Tensor:
    """`(n, 3)` int64: the train triples of a source whose labels a vocabulary has, by its ids."""
    own = source.vocabulary
    entity = torch.tensor([vocabulary.entity_ids.get(label, -1) for label in own.entities])
    relation = torch.tensor([vocabulary.relation_ids.get(label, -1) for label in own.relations])
    head, kind, tail = source.train.unbind(1)
    triples = torch.stack([entity[head], relation[kind], entity[tail]], dim=1)
    return triples[(triples >= 0).all(1)]


class PretrainingObjective:
    """Queries of several graphs; all queries of a step are of one graph.

    Args:
        config: the configuration.
        decoder: settings of the decoder.
        model: the weights; its own graph takes no part.
        sources: the real graphs, see `load_sources`.
    """

    sparse: Sequence[nn.Parameter] = ()

    def __init__(
        self,
        config: Config,
        decoder: AllPathsConfig,
        model: ConditionalModel,
        sources: Sequence[Source],
    ) -> None:
        assert config.pretrain
        self.decoder, self.model, self.seed = decoder, model, config.seed
        self.batch_size = decoder.batch_size
        self.steps = config.training.steps_per_epoch or STEPS
        self._shares = [*(source.share for source in sources), config.pretrain.synthetic]
        self._graphs = [self._objective(source.dataset) for source in sources]
        self._synthetic = lru_cache(RECENT + 1)(self._make)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The queries of each step of an epoch, one step after the other."""
        draw = np.random.default_rng([seed, epoch])
        shares, processes = np.array(self._shares), process_group.world_size()
        rows = []
        for step in range(epoch * self.steps, (epoch + 1) * self.steps):
            number = int(draw.choice(len(shares), p=shares / shares.sum()))
            if number == len(self._graphs):
                number += max(0, step // FRESH - int(draw.integers(RECENT)))
            # The seed of the queries of each process; they are drawn when their graph is there.
            seeds = draw.integers(ROWS, size=processes)
            rows.append(number * ROWS + int(seeds[process_group.rank()]))
        return torch.tensor(rows).repeat_interleave(self.batch_size // processes)

    def parts(self, rows: Tensor) -> list[PassBatch]:
        """The queries of a step with their targets, a few queries in each part."""
        number, seed = divmod(int(rows[0]), ROWS)
        self.now = self._of(number)
        return self.now.parts(self.now.draw(len(rows), seed))

    def shared(self, parts: Sequence[PassBatch]) -> Sequence[Tensor]:
        """The parameters of relations of the step's graph."""
        return self.now.shared(parts)

    def loss(self, part: PassBatch, *shared: Tensor) -> tuple[Tensor, float]:
        """See `ConditionalObjective.loss`."""
        return self.now.loss(part, *shared)

    def _of(self, number: int) -> ConditionalObjective:
        real = len(self._graphs)
        return self._graphs[number] if number < real else self._synthetic(number - real)

    def _make(self, number: int) -> ConditionalObjective:
        return self._objective(synthetic_graph(self.seed * 1_000_003 + number))

    def _objective(self, dataset: KGDataset) -> ConditionalObjective:
        model = self.model.on(KnowledgeGraph.from_dataset(dataset))
        answers = answer_index(dataset.train, dataset.num_relations)
        return ConditionalObjective(self.decoder, model, answers)
