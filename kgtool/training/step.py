"""A training step: add up the gradients of its parts and of all processes, and update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kgtool.config import Config, TrainingConfig
from kgtool.data.dataset import KGDataset
from kgtool.distributed import process_group
from kgtool.errors import TrainingError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.partition import shards_of
from kgtool.models.factory import build_model
from kgtool.models.scorers import Scorer
from kgtool.ops import autocast, by_row, in_threads, torch_in_one_thread
from kgtool.storage.checkpoint import Tensors, load_weights, pack_optimizer, unpack_optimizer
from kgtool.storage.memmap import MappedTables
from kgtool.training.factory import make_objective
from kgtool.training.optimizer import (
    clip_norm,
    learning_rate,
    make_optimizer,
    set_rate,
    training_dtype,
)
from kgtool.training.pretraining import Source


@dataclass(frozen=True, eq=False)
class _Worked:
    """A part of a step: its summed loss, the number of terms, and a gradient per parameter."""

    loss: float
    count: float
    gradients: tuple[Tensor | None, ...]


class Updater:
    """The training of a model of one part: its objective, its optimiser and its place in epochs.

    Args:
        config: the configuration of the part.
        dataset: the triples.
        owners: the file with the process that holds the row of each entity; needed with several
            processes. Tables that do not fit into memory are stored next to it.
        graph: the knowledge graph, if another part of the model has made it.
        sources: the graphs to pre-train on, if they are loaded already.

    Attributes:
        average: the averaged weights by name of the parameter; empty before the first step and
            without `training.average_weights`.
    """

    def __init__(
        self,
        config: Config,
        dataset: KGDataset,
        owners: Path | None = None,
        graph: KnowledgeGraph | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.settings: TrainingConfig = config.training
        self.seed = config.seed
        self.epoch = self.step = 0
        torch.manual_seed(config.seed + process_group.rank())
        self.mapped = MappedTables(owners.parent) if owners else nullcontext()
        drawing = config.samples_negatives
        shards = shards_of(dataset, owners) if owners and drawing else None
        with self.mapped if drawing else nullcontext():
            self.model = build_model(
                config, dataset, shards, mapped=drawing and bool(owners), graph=graph
            )
            self.objective = make_objective(config, self.model, dataset, sources)
            self.names, self.parameters = zip(*self.model.named_parameters(), strict=True)
            self.optimizer = make_optimizer(
                self.settings, self.parameters, self.model.embeddings(), self.objective.sparse
            )
        self.device = next(self.model.parameters()).device.type
        self.precision = training_dtype(self.settings.precision, self.device)
        # Each process initialises its own sharded rows; the first broadcasts all other parameters.
        self.sharded = self.model.of_entities if shards else ()
        named = zip(self.names, self.parameters, strict=True)
        self.dense = [parameter for name, parameter in named if name not in self.sharded]
        for parameter in self.dense:
            process_group.broadcast(parameter.data)
        rows = torch.tensor(len(self.objective.order(config.seed, 0)))
        process_group.all_reduce([rows])
        self.all_steps = math.ceil(int(rows) / self.objective.batch_size)
        limit = self.settings.steps_per_epoch or self.all_steps
        self.steps_per_epoch = min(self.all_steps, limit)
        self.total_steps = self.settings.epochs * self.steps_per_epoch
        self.average: Tensors = {}
        # The state of torch's generator for the first step.
        self.generator = torch.get_rng_state()

    @torch_in_one_thread()
    def make_step(self, rows: Tensor) -> float:
        """Make one update; return the loss."""
        drawn = self.objective.sparse
        with by_row(*drawn, *(sums for p in drawn for sums in self.optimizer.state[p].values())):
            return self._update(rows)

    def _update(self, rows: Tensor) -> float:
        self.model.train()
        if process_group.world_size() > 1:
            # Draws depend on step and process only, so that a resumed run repeats them.
            torch.manual_seed(hash((self.seed, self.step, process_group.rank())))
        worked = self._worked(self.objective.parts(rows))
        for i, parameter in enumerate(self.parameters):
            gradients = [grad for part in worked if (grad := part.gradients[i]) is not None]
            parameter.grad = _sum(gradients) if gradients else None
        loss, count = self._together(worked)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.step + 1} (epoch {self.epoch + 1}); the "
                "update was not made. Remedy: train into another folder with a lower "
                "training.learning_rate, with training.max_grad_norm, or with "
                "training.precision=float32"
            )
        for parameter in self.parameters:
            if parameter.grad is not None and count != 1:
                parameter.grad.div_(count)
        if self.settings.max_grad_norm is not None:
            clip_norm(self.parameters, self.settings.max_grad_norm)
        set_rate(self.optimizer, learning_rate(self.settings, self.step, self.total_steps))
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # our indices are sorted
            self.optimizer.step()
        if self.settings.average_weights:
            self._add_to_average()
        return loss

    def _add_to_average(self) -> None:
        """Move the average towards the weights of this step.

        Step t has weight 1 / (s·t), at most 1, for a share s of the steps so far. So the average
        covers the same share of a short and of a long run, and forgets the initial weights.

        Source: Shamir & Zhang, Stochastic Gradient Descent for Non-smooth Optimization (ICML 2013),
        polynomial-decay averaging.
        """
        weight = min(1.0, 1 / (self.settings.average_weights * (self.step + 1)))
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if name in self.average:
                self.average[name].lerp_(parameter.detach(), weight)
            else:
                self.average[name] = parameter.detach().clone()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have the averaged weights, if there are any, in the `with` block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """Exchange the weights and their average; no number is copied."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if name in self.average:
                parameter.data, self.average[name] = self.average[name], parameter.data

    @torch_in_one_thread()
    def scorer(self) -> Scorer:
        """The scorer of the current weights; all processes call it together."""
        with self.mapped:
            return self.model.distributed_scorer()

    def batches(self, order: Tensor) -> Sequence[Tensor]:
        """The rows of this process per step of an epoch; all processes make as many steps."""
        if process_group.world_size() == 1:
            batches = order.split(self.objective.batch_size)
        else:
            batches = order.tensor_split(self.all_steps)
        return batches[: self.steps_per_epoch]

    def _together(self, worked: Sequence[_Worked]) -> tuple[float, float]:
        """The loss of all processes and the number of targets; sums the gradients of all processes.

        Each process already has the whole gradient of its own sharded rows.
        """
        local = [sum(part.loss for part in worked), sum(part.count for part in worked)]
        sums = torch.tensor(local, dtype=torch.double)
        if process_group.world_size() > 1:
            for parameter in self.dense:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            process_group.all_reduce([sums, *(p.grad for p in self.dense if p.grad is not None)])
        total, count = sums.tolist()
        return total / count, count

    def _worked(self, parts: Sequence[Any]) -> list[_Worked]:
        """The losses and gradients of the parts of a batch, and last of what the parts share.

        They are in the order of the parts, and not in the order in which threads finish.
        """
        with self.autocast():
            shared = self.objective.shared(parts)
        leaves = [tensor.detach().requires_grad_() for tensor in shared]
        inputs = (*self.parameters, *leaves)

        def work(part: Any) -> _Worked:
            with self.autocast():
                loss, count = self.objective.loss(part, *leaves)
            return _Worked(loss.item(), count, torch.autograd.grad(loss, inputs, allow_unused=True))

        worked = in_threads(work, parts)
        many = len(self.parameters)
        of_leaves = zip(*(part.gradients[many:] for part in worked), strict=True)
        sums = [_sum([grad for grad in grads if grad is not None]) for grads in of_leaves]
        if sums:
            gradients = torch.autograd.grad(shared, self.parameters, sums, allow_unused=True)
            worked.append(_Worked(0.0, 0, gradients))
        return worked

    def autocast(self) -> torch.autocast:
        """The precision of the products of a step."""
        return autocast(self.device, torch.bfloat16, self.precision == torch.bfloat16)

    def tensors(self, weights: Tensors) -> Tensors:
        """The tensors of a checkpoint (in the first process): weights and their average, optimiser
        and generator.

        Args:
            weights: those of the whole model, by name.
        """
        tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
        tensors |= self.whole(pack_optimizer(self.optimizer, list(self.names)))
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        return tensors | {"generator": torch.get_rng_state()}

    def take(self, tensors: Tensors, model: nn.Module, path: Path) -> None:
        """Restore the tensors that `tensors` returned; errors name `path`.

        Args:
            tensors: the tensors.
            model: the whole model, with this part.
            path: their file.

        Raises:
            RunError: when the tensors do not fit the model.
            KeyError: when a tensor is missing.
        """
        if shards := self.model.shards:
            tensors = shards.local_tensors(tensors, self.sharded)
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n[:6] == "model."}
        load_weights(model, weights, path)
        unpack_optimizer(self.optimizer, list(self.names), tensors)
        if self.settings.average_weights and self.step:
            for name, parameter in zip(self.names, self.parameters, strict=True):
                tensor = tensors[f"average.{name}"]
                if (tensor.shape, tensor.dtype) != (parameter.shape, parameter.dtype):
                    raise ValueError(f"the average of {name} has a wrong shape or dtype")
                self.average[name] = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        torch.set_rng_state(tensors["generator"])

    def whole(self, tensors: Tensors) -> Tensors:
        """The tensors of a checkpoint; the first process gathers all sharded rows."""
        shards = self.model.shards
        with self.mapped:
            return shards.whole_tensors(tensors, self.sharded) if shards else tensors


def _sum(gradients: Sequence[Tensor]) -> Tensor:
    """Add up gradients into a contiguous one; fused optimisers ignore strides."""
    first, *others = gradients
    return sum(others, first if first.is_sparse else first.contiguous())
