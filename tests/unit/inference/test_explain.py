"""Explanations: paths add up to the gradient, and the path of a rule is found."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.data.dataset import Vocabulary
from kgtool.errors import ConfigError, DataError, RunError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.explain import Explanation, NamedPath, Path, explain_triple, name_path
from kgtool.inference.plot import save_picture
from kgtool.ops import path_rows
from kgtool.runs.run import Run
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder
from tests.unit.models.test_all_paths import edges_without, make_decoder


@pytest.mark.parametrize("seed", range(3))
def test_all_paths_together_are_the_score(seed):
    torch.manual_seed(seed)
    dataset = random_dataset(seed, num_entities=6, num_train=12)
    graph = KnowledgeGraph.from_dataset(dataset)
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
        assert (path.entities[0], path.entities[-1]) == (head, tail)
        assert len(path.steps) == len(path.entities) - 1 <= decoder.layers
        for u, step, v in zip(path.entities, path.steps, path.entities[1:], strict=False):
            assert {(u, r, v) for r, _ in step} <= edges
            assert sum(weight for _, weight in step) == pytest.approx(path.weight, rel=1e-5)
            assert [w for _, w in step] == sorted((w for _, w in step), reverse=True)
    assert len({path.entities for path in paths}) == len(paths)


def test_a_beam_keeps_the_strongest():
    torch.manual_seed(3)
    dataset = random_dataset(3)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    triple = tuple(dataset.test[0].tolist())
    assert len(triple) == 3
    whole = explain_triple(decoder, graph, triple, beam=1_000_000)
    narrow = explain_triple(decoder, graph, triple, beam=8)
    assert 0 < len(narrow) < len(whole)
    assert narrow[0].entities in {path.entities for path in whole[:5]}


def test_an_edge_does_not_explain_itself():
    torch.manual_seed(4)
    dataset = random_dataset(4)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    for head, relation, tail in dataset.train.tolist()[:8]:
        for path in explain_triple(decoder, graph, (head, relation, tail)):
            for u, step, v in zip(path.entities, path.steps, path.entities[1:], strict=False):
                relations = {r for r, _ in step}
                assert (u, v) != (head, tail) or relation not in relations
                assert (u, v) != (tail, head) or relation + dataset.num_relations not in relations


def test_rows_of_torch_are_those_of_the_kernels():
    torch.manual_seed(5)
    dataset = random_dataset(5)
    graph = KnowledgeGraph.from_dataset(dataset)
    decoder = make_decoder(dataset)
    reached = decoder.reach(graph, torch.tensor([2]))
    before, after = decoder.states(reached)[:2]
    after = after[: reached.rows(1)]
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
    config = all_paths_config(epochs=20, learning_rate=0.02, lr_schedule="constant")
    return train(config, data, folder / "run", progress=False)


def test_explain_by_label(run):
    found = kgtool.explain(run, "e000", "r002", "e005", top=3)
    assert found.triple == ("e000", "r002", "e005")
    assert 0 < len(found.paths) <= 3
    for path in found.paths:
        assert (path.entities[0], path.entities[-1]) == ("e000", "e005")
        assert str(path).startswith("e000 ")
    assert kgtool.explain(str(run.path), "e000", "r002", "e005", top=3) == found
    with pytest.raises(DataError, match=r"unknown entity 'e00x' \(did you mean 'e\d+'\?\)"):
        kgtool.explain(run, "e00x", "r002", "e005")
    with pytest.raises(DataError, match=r"unknown relation 'likes'\. Remedy"):
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
    path = written["paths"][0]
    assert set(path) == {"weight", "entities", "steps"}
    assert set(path["steps"][0][0]) == {"relation", "weight"}


def test_inverses_and_parallel_edges_by_name():
    words = Vocabulary(("Ada", "Ben", "Cleo"), ("likes", "knows"))
    steps = (((0, 1.5), (3, 0.5), (1, 0.1)), ((2, 2.1),))
    path = name_path(Path(2.1, (0, 1, 2), steps), words)
    # What carries less than a tenth of the strongest is in the data, not in the line.
    assert path.steps[0] == (("likes", 1.5), ("^knows", 0.5), ("knows", 0.1))
    assert str(path) == "Ada --likes, ^knows--> Ben --^likes--> Cleo"


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_a_picture(run, tmp_path, suffix, begins):
    file = tmp_path / f"why{suffix}"
    found = kgtool.explain(run, "e000", "r002", "e005", top=4)
    save_picture(found, file)
    assert file.read_bytes().startswith(begins)
    if suffix == ".svg":
        drawn = file.read_text()
        assert all(label in drawn for label in ("e000", "e005", f"{found.paths[0].weight:.2f}"))


def test_a_picture_without_paths_and_of_no_kind(run, tmp_path):
    save_picture(Explanation(("a", "r", "b"), ()), tmp_path / "none.svg")
    assert "No path from head to tail." in (tmp_path / "none.svg").read_text()
    command = ["explain", str(run.path), "e000", "r002", "e005", "--plot", "why.bmp"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigError)
    assert "why.bmp: unsupported picture format. Remedy: use .png, .svg or .pdf" in str(
        result.exception
    )


def test_one_path_has_no_paths_to_show(tmp_path):
    data = kgtool.load_dataset(write_folder(ring(), tmp_path / "ring"))
    run = train(tiny_config(epochs=1), data, tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"train with an \[all_paths\] section"):
        kgtool.explain(Run.open(run.path), "e000", "r002", "e005")


def test_people_read_other_names():
    path = NamedPath(0.5, ("Q1", "Q2", "Q3"), ((("r", 0.5),), (("^s", 0.5),)))
    found = Explanation(("Q1", "t", "Q3"), (path,)).readable(
        {"Q1": "China", "Q2": "Asia", "t": "x"}
    )
    assert found.triple == ("China", "t", "Q3")
    assert str(found.paths[0]) == "China --r--> Asia --^s--> Q3"
