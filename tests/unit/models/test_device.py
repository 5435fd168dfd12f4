"""Passes in torch's operations, compared with the kernels, on the CPU and on a GPU if any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.config import AllPathsConfig
from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder, Parts
from kgtool.models.model import AllPathsModel
from kgtool.ops import path_loss, path_step
from kgtool.ops.all_paths import path_step_torch
from kgtool.ops.all_paths.path_loss import torch_path_loss
from kgtool.ops.all_paths.path_step_torch import torch_path_step
from kgtool.training.objectives import AllPathsObjective
from kgtool.training.optimizer import training_dtype
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, ring, write_folder
from tests.unit.models.test_all_paths import hide, make_decoder

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


def gradients(function: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """The value of a randomly weighted sum, and its gradients to the tensors."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    value = function(*leaves)
    weight = torch.rand(value.shape, generator=torch.Generator().manual_seed(0)).to(value)
    return [value.detach(), *torch.autograd.grad((value * weight).sum(), leaves)]


@pytest.mark.parametrize("parts", [None, Parts(whole=0, nearest=2)])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_a_step_is_the_kernels(monkeypatch, chunk, parts):
    monkeypatch.setattr(path_step_torch, "EDGES", chunk)
    torch.manual_seed(0)
    dataset = random_dataset(3, num_train=40)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    decoder.parts = parts
    heads = torch.tensor([0, 5, 5, dataset.num_entities - 1, 3])
    reached = decoder.reach(graph, heads, hide(graph, heads)[0])
    context = torch.tensor([0, 1, 0, 1, 1])
    weight = torch.randn(2, 2 * dataset.num_relations, decoder.dim).double()
    for step in (1, 2, 3):
        state = torch.randn(reached.rows(step - 1), decoder.dim).double()
        tensors = [state, weight, decoder.scalers[0], decoder.matrix(), decoder.bias]
        where: tuple[Any, ...] = (context, reached, step)
        found = [
            gradients(lambda *floats: step_of(*floats, *where), tensors)  # noqa: B023
            for step_of in (path_step, torch_path_step)
        ]
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_loss_is_the_kernels():
    torch.manual_seed(6)
    rows, counts = torch.tensor([5, 9]), torch.tensor([2, 3])
    target = torch.tensor([2, 20, 0, 8, 20])
    first, masked = torch.tensor([0, 1, 1, 3, 3, 3]), torch.tensor([1, 3, 4])
    tensors = [torch.randn(*shape).double() for shape in ((15, 4), (3, 4), (3,), (5, 7))]
    tensors[0][14] = 0
    for num_entities in (11, 40):
        others = num_entities - rows.repeat_interleave(counts)
        where: tuple[Any, ...] = (rows, counts, target, first, masked, others)
        mine, theirs = (
            gradients(lambda *floats: loss(*floats, *where), tensors)  # noqa: B023
            for loss in (path_loss, torch_path_loss)
        )
        # The state of what is not reached is no parameter.
        mine[1], theirs[1] = mine[1][:14], theirs[1][:14]
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_precision_follows_the_device():
    assert training_dtype("auto", "cuda") == torch.float32
    assert training_dtype("bfloat16", "cuda") == torch.bfloat16


def objective_on(device: str, dataset: KGDataset) -> tuple[AllPathsModel, AllPathsObjective]:
    torch.manual_seed(0)
    decoder = AllPathsDecoder(dataset.num_relations, 16, 3, 8).double()
    model = AllPathsModel(decoder, KnowledgeGraph.from_dataset(dataset)).to(device)
    answers = AnswerIndex(
        with_inverses(dataset.train, dataset.num_relations), 2 * dataset.num_relations
    )
    return model, AllPathsObjective(AllPathsConfig(), model, answers)


@gpu
def test_training_and_scores_on_a_gpu_are_the_cpus():
    dataset = random_dataset(5, num_train=60)
    found = []
    for device in ("cpu", "cuda"):
        model, objective = objective_on(device, dataset)
        torch.manual_seed(1)
        (part,) = objective.parts(torch.arange(6))
        loss, _ = objective.loss(part)
        loss.backward()
        grads = [p.grad.cpu() for p in model.parameters() if p.grad is not None]
        scorer = model.scorer()
        hr = torch.tensor([[0, 1], [3, 0], [0, 2]])
        found.append(
            [
                loss.detach().cpu(),
                *grads,
                scorer.score_t(hr),
                scorer.entity_states(),
                scorer.relation_states(),
            ]
        )
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


@gpu
@pytest.mark.on_device
def test_a_run_on_a_gpu(tmp_path):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    run = train(all_paths_config(epochs=3), data, tmp_path / "run", progress=False)
    assert " on cuda" in (tmp_path / "run" / "train.log").read_text()
    assert kgtool.evaluate(run, "valid").mrr == pytest.approx(run.history()[-1]["valid_mrr"])
    kgtool.export(run, tmp_path / "out")
    assert kgtool.explain(run, "e000", "r002", "e005").paths
