"""Explanations: paths add up to the gradient, and the path that a rule takes is found."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.errors import DataError, RunError
from kgtool.explain import explain_triple
from kgtool.graph import MessageGraph
from kgtool.ops import path_rows
from kgtool.run import Run
from kgtool.trainer import train
from tests.graphs import random_dataset
from tests.runs import all_paths_config, ring, tiny_config, write_folder
from tests.test_all_paths import edges_without, make_decoder


@pytest.mark.parametrize("seed", range(3))
def test_all_paths_together_are_the_score(seed):
    torch.manual_seed(seed)
    dataset = random_dataset(seed, num_entities=6, num_train=12)
    graph = MessageGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    with torch.no_grad():
        decoder.bias.zero_()
        decoder.hidden.get_parameter("bias").zero_()
        # What the least deviation brings where no message comes is a bias too.
        decoder.scalers[:, 1] = -20
    # Head and tail differ, else the state that only waits carries a part, and is no path.
    head, relation, tail = next(t for t in dataset.test.tolist() if t[0] != t[2])
    paths = explain_triple(decoder, graph, (head, relation, tail), beam=1_000_000)
    reached = decoder.reach(graph, torch.tensor([head]))
    slot = reached.slot_of(torch.tensor([0]), torch.tensor([tail]))
    features = decoder.features(decoder(reached)[slot])
    score = (features @ decoder.queries(torch.tensor([relation])).t()).sum()
    assert sum(path.weight for path in paths) == pytest.approx(float(score.detach()), rel=1e-3)
    assert [p.weight for p in paths] == sorted((p.weight for p in paths), reverse=True)
    edges = set(edges_without(graph, set()))
    for path in paths:
        assert set(path.edges) <= edges
        places = [head, *(t for _, _, t in path.edges)]
        assert [h for h, _, _ in path.edges] == places[:-1]
        assert places[-1] == tail
        assert len(path.edges) <= decoder.steps
    assert len({path.edges for path in paths}) == len(paths)


def test_a_beam_keeps_the_strongest():
    torch.manual_seed(3)
    dataset = random_dataset(3)
    graph = MessageGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    triple = tuple(dataset.test[0].tolist())
    assert len(triple) == 3
    whole = explain_triple(decoder, graph, triple, beam=1_000_000)
    narrow = explain_triple(decoder, graph, triple, beam=64)
    assert 0 < len(narrow) < len(whole)
    assert narrow[0].edges in {path.edges for path in whole[:5]}


def test_an_edge_does_not_explain_itself():
    torch.manual_seed(4)
    dataset = random_dataset(4)
    graph = MessageGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    for head, relation, tail in dataset.train.tolist()[:8]:
        for path in explain_triple(decoder, graph, (head, relation, tail)):
            assert (head, relation, tail) not in path.edges
            assert (tail, relation + dataset.num_relations, head) not in path.edges


def test_rows_of_torch_are_those_of_the_kernels():
    torch.manual_seed(5)
    dataset = random_dataset(5)
    graph = MessageGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    reached = decoder.reach(graph, torch.tensor([2]))
    before, after = decoder.states(reached)[:2]
    entity = reached.entities()[: len(after)]
    sums, squares = torch.zeros(2, len(after), decoder.dim).double().unbind()
    degree = torch.bincount(graph.tail, minlength=graph.num_entities)[entity]
    for row, v in enumerate(entity.tolist()):
        for e in torch.nonzero((graph.tail == v) & (graph.head == 2)).flatten().tolist():
            message = before[0] * decoder.weights[0, graph.relation[e]]
            sums[row] += message.detach()
            squares[row] += message.detach().square()
    old = torch.zeros_like(after)
    old[0] = before[0]
    weights = (decoder.scalers[0], decoder.matrix(), decoder.bias)
    for held in (False, True):
        rows = path_rows(sums, squares, degree, old, *weights, held=held)
        torch.testing.assert_close(rows, after)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    data = kgtool.load_dataset(write_folder(ring(), folder / "ring"))
    config = all_paths_config(epochs=20, learning_rate=0.02, decay="none")
    return train(config, data, folder / "run", progress=False)


def test_explain_by_label(run):
    found = kgtool.explain(run, "e000", "r002", "e005", top=3)
    assert found.triple == ("e000", "r002", "e005")
    assert 0 < len(found.paths) <= 3
    for path in found.paths:
        assert (path.edges[0][0], path.edges[-1][2]) == ("e000", "e005")
        assert str(path).startswith("e000 ")
    assert kgtool.explain(str(run.path), "e000", "r002", "e005", top=3) == found
    with pytest.raises(DataError, match=r"no entity 'e00x' \(is it 'e\d+'\?\)"):
        kgtool.explain(run, "e00x", "r002", "e005")
    with pytest.raises(DataError, match=r"no relation 'likes'\. Remedy"):
        kgtool.explain(run, "e000", "likes", "e005")


def test_explain_on_the_command_line(run, tmp_path):
    file = tmp_path / "why.json"
    command = ["explain", str(run.path), "e000", "r002", "e005", "--top", "2", "--json", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "e000 --r002--> e005" in result.output
    written = json.loads(file.read_text())
    assert (written["head"], written["relation"], written["tail"]) == ("e000", "r002", "e005")
    assert len(written["paths"]) == 2
    assert {"head", "relation", "tail", "inverse"} == set(written["paths"][0]["edges"][0])


def test_one_path_has_no_paths_to_show(tmp_path):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    run = train(tiny_config(epochs=1), data, tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"train with an \[all_paths\] section"):
        kgtool.explain(Run.open(run.path), "e000", "r002", "e005")
