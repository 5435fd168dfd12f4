"""Explanations: paths add up to the gradient, and the path of a rule is found."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.errors import ConfigError, DataError, RunError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.explain import (
    Explanation,
    NamedPath,
    Path,
    explain_triple,
    name_path,
    pairs_of,
)
from kgtool.inference.path_search import PathSearch
from kgtool.inference.plot import save_picture
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.scorers import PassScorer
from kgtool.ops import path_rows
from kgtool.runs.run import Run
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, in_memory, ring, tiny_config, write_folder
from tests.unit.models.test_all_paths import edges_without, make_decoder


def without_biases(decoder: AllPathsDecoder) -> AllPathsDecoder:
    """The decoder whose scores are sums over paths alone."""
    with torch.no_grad():
        decoder.bias.zero_()
        decoder.hidden.get_parameter("bias").zero_()
        # The least deviation, where no message comes, is a bias too.
        decoder.scalers[:, 1] = -20
    return decoder


def passes_of(dataset: KGDataset, node_budget: int = 0) -> PassScorer:
    decoder = make_decoder(dataset)
    if node_budget:
        decoder = AllPathsDecoder(dataset.num_relations, 6, 3, 5, node_budget).double()
    return PassScorer(decoder, KnowledgeGraph.from_dataset(dataset))


def new_triples(dataset: KGDataset) -> list[tuple[int, int, int]]:
    """The triples of test between two entities."""
    return [(h, r, t) for h, r, t in dataset.test.tolist() if h != t]


@pytest.mark.parametrize("seed", range(3))
def test_all_paths_together_are_the_score(seed):
    torch.manual_seed(seed)
    dataset = random_dataset(seed, num_entities=6, num_train=12)
    passes = passes_of(dataset)
    without_biases(passes.decoder)
    # Head and tail differ, else the state that only waits carries a part, and is no path.
    head, relation, tail = new_triples(dataset)[0]
    search = PathSearch.of(passes, (head, relation, tail))
    assert search is not None
    paths, whole = search.paths(1_000_000)
    score = float(passes.score_hrt(torch.tensor([[head, relation, tail]])))
    assert whole
    assert sum(paths.values()) == pytest.approx(score, rel=1e-3)
    edges = set(edges_without(passes.graph, set()))
    for path, steps in zip(paths, search.parts([*paths]), strict=True):
        entities = [search.entities[slot] for slot in path]
        assert (entities[0], entities[-1]) == (head, tail)
        assert len(steps) == len(path) - 1 <= passes.decoder.layers
        for u, step, v in zip(entities, steps, entities[1:], strict=False):
            assert {(u, r, v) for r in step} == {e for e in edges if (e[0], e[2]) == (u, v)}
            assert sum(step.values()) == pytest.approx(paths[path], rel=1e-4, abs=1e-9)


def edges_of_pairs(path: Path) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in zip(path.entities, path.entities[1:], strict=False)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [0, 20])
def test_a_fall_is_the_difference_of_two_scores(seed, budget):
    torch.manual_seed(seed)
    dataset = random_dataset(seed, num_entities=8, num_train=14)
    passes = passes_of(dataset, budget)
    triple = new_triples(dataset)[0]
    found = explain_triple(passes, triple, top=4)

    def score_without(pairs: set[frozenset[int]]) -> float:
        left = [t for t in dataset.train.tolist() if frozenset((t[0], t[2])) not in pairs]
        graph = KnowledgeGraph.from_dataset(replace(dataset, train=torch.tensor(left).view(-1, 3)))
        return float(replace(passes, graph=graph).score_hrt(torch.tensor([triple])))

    assert found.score == pytest.approx(score_without(set()), rel=1e-5)
    assert 0 < len(found.paths) <= 4
    for path in found.paths:
        assert path.fall == pytest.approx(
            found.score - score_without(edges_of_pairs(path)), rel=1e-4, abs=1e-6
        )
        for step in path.steps:
            assert sum(weight for _, weight in step) == pytest.approx(path.weight, rel=1e-5)
    everything = set().union(*map(edges_of_pairs, found.paths))
    assert found.rest == pytest.approx(score_without(everything), rel=1e-4, abs=1e-6)
    assert len({frozenset(edges_of_pairs(path)) for path in found.paths}) == len(found.paths)


def test_the_strongest_come_first_for_or_against_the_score():
    signs = set()
    for seed in range(6):
        torch.manual_seed(seed)
        dataset = random_dataset(seed, num_entities=8, num_train=14)
        found = explain_triple(passes_of(dataset), new_triples(dataset)[0], top=5)
        sizes = [abs(path.weight) for path in found.paths]
        assert sizes == sorted(sizes, reverse=True)
        for path in found.paths:
            signs.add(path.weight > 0)
            assert path.weight * path.fall >= 0
            assert abs(path.weight) <= abs(path.fall) * (1 + 1e-9)
        # Removal chooses among the candidates; a path against the score is not left out.
        longer = explain_triple(passes_of(dataset), new_triples(dataset)[0], top=20)
        assert longer.score == found.score or longer.paths
    assert signs == {True, False}


def test_paths_that_share_no_edge_have_the_whole_fall():
    # Two ways from 0 to 3, and a third over the first edge of the first way.
    train = [(0, 0, 1), (1, 1, 3), (0, 1, 2), (2, 0, 3), (1, 0, 4), (4, 1, 3)]
    dataset = in_memory(train, [], [(0, 0, 3)], 5, 2)
    torch.manual_seed(1)
    found = explain_triple(passes_of(dataset), (0, 0, 3), top=20)
    by = {path.entities: path for path in found.paths}
    alone, shared = by[0, 2, 3], [by[0, 1, 3], by[0, 1, 4, 3]]
    # Longer walks over the same facts and others share them too, so a weight is less than the fall.
    assert 0 < abs(alone.weight) <= abs(alone.fall)
    assert all(0 < abs(path.weight) < abs(path.fall) for path in shared)


def test_the_beam_widens_until_the_candidates_stay_the_same():
    for seed in range(3):
        torch.manual_seed(seed)
        dataset = random_dataset(seed, num_entities=20, num_train=120)
        passes, triple = passes_of(dataset), new_triples(dataset)[0]
        whole = explain_triple(passes, triple, top=5, beam=1_000_000)
        narrow = explain_triple(passes, triple, top=5, beam=64)
        assert narrow.score == whole.score
        assert [path.entities for path in narrow.paths] == [path.entities for path in whole.paths]
        search = PathSearch.of(passes, triple)
        assert search is not None
        some, all_kept = search.paths(8)
        assert not all_kept
        assert 0 < len(some) <= 8


def searches(count: int) -> Iterator[tuple[PassScorer, tuple[int, int, int], PathSearch]]:
    """Searches on graphs with many paths, for triples that are no edges."""
    for seed in range(count):
        torch.manual_seed(seed)
        dataset = random_dataset(seed, num_entities=12, num_train=40)
        passes, triple = passes_of(dataset), new_triples(dataset)[0]
        search = PathSearch.of(passes, triple)
        if search is not None:
            yield passes, triple, search


def test_a_narrow_beam_keeps_the_largest_of_either_sign():
    against = 0
    for _, _, search in searches(8):
        paths, _ = search.paths(1_000_000)
        strongest = max(paths, key=lambda path: abs(paths[path]))
        against += paths[strongest] < 0
        assert strongest in search.paths(len(paths) // 3)[0]
    assert 0 < against < 8


def test_removal_tests_the_paths_of_largest_contributions(monkeypatch):
    monkeypatch.setattr("kgtool.inference.explain.CANDIDATES", 3)
    against = 0
    for passes, triple, search in searches(8):
        grouped: dict[frozenset[frozenset[int]], float] = defaultdict(float)
        for slots, part in search.paths(1_000_000)[0].items():
            grouped[pairs_of([search.entities[slot] for slot in slots])] += part
        largest = sorted(grouped, key=lambda pairs: -abs(grouped[pairs]))[:3]
        against += grouped[largest[0]] < 0
        found = explain_triple(passes, triple, top=3, beam=1_000_000)
        assert {pairs_of(path.entities) for path in found.paths} == set(largest)
        total = {
            pairs: sum(abs(grouped[q]) * len(pairs & q) / len(q) for q in largest)
            for pairs in largest
        }
        for shown in found.paths:
            pairs = pairs_of(shown.entities)
            share = abs(grouped[pairs]) / total[pairs]
            assert shown.weight == pytest.approx(shown.fall * share, rel=1e-5)
    assert 0 < against < 8


def test_an_edge_does_not_explain_itself():
    torch.manual_seed(4)
    dataset = random_dataset(4)
    passes = passes_of(dataset)
    for head, relation, tail in dataset.train.tolist()[:8]:
        found = explain_triple(passes, (head, relation, tail))
        graph = KnowledgeGraph.from_dataset(
            replace(
                dataset,
                train=dataset.train[(dataset.train != torch.tensor([head, relation, tail])).any(1)],
            )
        )
        alone = replace(passes, graph=graph)
        triple = torch.tensor([[head, relation, tail]])
        assert found.score == pytest.approx(float(alone.score_hrt(triple)), rel=1e-6)
        for path in found.paths:
            for u, step, v in zip(path.entities, path.steps, path.entities[1:], strict=False):
                relations = {r for r, _ in step}
                assert (u, v) != (head, tail) or relation not in relations
                assert (u, v) != (tail, head) or relation + dataset.num_relations not in relations


def test_an_answer_that_no_path_reaches_has_the_score_of_all_such():
    dataset = in_memory([(0, 0, 1), (2, 0, 3)], [], [(0, 0, 3)], 5, 1)
    torch.manual_seed(0)
    passes = passes_of(dataset)
    found = explain_triple(passes, (0, 0, 3))
    assert found.paths == ()
    assert (
        found.score
        == found.rest
        == pytest.approx(float(passes.score_t(torch.tensor([[0, 0]]))[0, 4]))
    )
    assert explain_triple(passes, (4, 0, 3)).paths == ()  # the head has no edge


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
    assert set(path) == {"weight", "fall", "entities", "steps"}
    assert written["score"] == pytest.approx(written["carried"] + written["rest"])
    assert f"Score {written['score']:.2f}" in result.output
    assert set(path["steps"][0][0]) == {"relation", "weight"}


def test_inverses_and_parallel_edges_by_name():
    words = Vocabulary(("Ada", "Ben", "Cleo"), ("likes", "knows"))
    steps = (((0, 1.5), (3, 0.5), (1, 0.1)), ((2, 2.1),))
    path = name_path(Path(2.1, 3.0, (0, 1, 2), steps), words)
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
