"""Files of `dgl.save_graphs`, and DGL graphs of notebooks, hold the data set that was given."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import dgl
import pytest
import torch

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary, with_inverses
from kgtool.data.loaders.write import write_dataset
from kgtool.errors import ConfigError, DataError
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import ring, write_folder


def labelled(data: KGDataset, split: str) -> list[tuple[str, str, str]]:
    e, r = data.vocabulary.entities, data.vocabulary.relations
    return [(e[h], r[k], e[t]) for h, k, t in tuples_of(data.split(split))]


def written(tmp_path: Path, data: KGDataset) -> Path:
    write_dataset(data, tmp_path / "graphs", to="dgl")
    return tmp_path / "graphs"


def test_a_data_set_comes_back_as_it_was(tmp_path: Path) -> None:
    data = ring()
    folder = written(tmp_path, data)
    assert sorted(path.name for path in folder.iterdir()) == ["test.dgl", "train.dgl", "valid.dgl"]
    again = kgtool.load_dataset(folder)
    assert again.fingerprint == data.fingerprint
    assert again.vocabulary == data.vocabulary


def test_a_data_set_with_entity_types_comes_back_in_its_order(tmp_path: Path) -> None:
    data = ring()
    types = {label: (f"type{i % 3}",) for i, label in enumerate(data.vocabulary.entities) if i % 4}
    typed = replace(data, types=types)
    folder = written(tmp_path, typed)
    (graph,), _ = dgl.load_graphs(str(folder / "train.dgl"))
    assert graph.ntypes == ["entity", "type0", "type1", "type2"]
    assert kgtool.load_dataset(folder).fingerprint == data.fingerprint
    graph.nodes["type0"].data.pop(dgl.NID)
    _, labels = dgl.load_graphs(str(folder / "train.dgl"))
    dgl.save_graphs(str(folder / "train.dgl"), [graph], labels)
    with pytest.raises(DataError, match="labels of entities do not fit its nodes"):
        kgtool.load_dataset(folder)


def test_labels_of_any_letters_and_relations_out_of_order(tmp_path: Path) -> None:
    rows = [("b", "/z.y/x", "ä"), ("ä", "a b", "∂ß"), ("b", '"q"', "b"), ("ä", "/z.y/x", "b")]
    data = kgtool.dataset_of(rows, rows[1:], rows[:1])
    # Ids that are not in the order of labels, as a run's may be.
    words = Vocabulary(data.vocabulary.entities[::-1], data.vocabulary.relations[::-1])
    backwards = replace(data, vocabulary=words)
    for given in (data, backwards):
        again = kgtool.load_dataset(written(tmp_path, given))
        for split in SPLITS:
            assert labelled(again, split) == labelled(given, split)


def test_convert_writes_graphs_that_dgl_reads(tmp_path: Path) -> None:
    place = write_folder(ring(), tmp_path / "ring")
    _, files = kgtool.convert(place, tmp_path / "graphs", to="dgl")
    assert [file.name for file in files] == ["train.dgl", "valid.dgl", "test.dgl"]
    (graph,), labels = dgl.load_graphs(str(files[0]))
    data = kgtool.load_dataset(place)
    assert graph.idtype == torch.int32
    assert graph.ntypes == ["entity"]
    assert graph.etypes == list(data.vocabulary.relations)
    assert bytes(labels["entities"].numpy()).decode().split("\n") == list(data.vocabulary.entities)
    for ours, theirs in zip(data.graph.etypes, graph.etypes, strict=True):
        for one, other in zip(data.graph.edges(etype=ours), graph.edges(etype=theirs), strict=True):
            assert torch.equal(one, other)
    assert kgtool.load_dataset(tmp_path / "graphs").fingerprint == data.fingerprint
    with pytest.raises(ConfigError, match=r"no format 'rdf' to write.*Remedy: one of tsv, dgl"):
        kgtool.convert(place, tmp_path / "other", to="rdf")


def test_a_graph_of_anyone_is_read_by_its_ids(tmp_path: Path) -> None:
    data = ring()
    folder = written(tmp_path, data)
    pair = (torch.tensor([0, 1]), torch.tensor([1, 2]))
    graph = dgl.heterograph({("a", "likes", "b"): pair, ("b", "knows", "a"): pair})
    dgl.save_graphs(str(folder / "train.dgl"), [graph])
    assert ("a:0", "likes", "b:1") in labelled(kgtool.load_dataset(folder), "train")
    flat = dgl.graph(pair)
    flat.edata["etype"] = torch.tensor([3, 4])
    dgl.save_graphs(str(folder / "train.dgl"), [flat])
    assert labelled(kgtool.load_dataset(folder), "train") == [("0", "3", "1"), ("1", "4", "2")]


def damaged(whole: bytes, how: str) -> bytes:
    if how == "cut":
        return whole[: len(whole) // 2]
    return b"no graph" if how == "other" else b""


@pytest.mark.parametrize(
    ("how", "message"),
    [("cut", "damaged: "), ("other", "not a file of dgl.save_graphs"), ("empty", "no triples")],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, how: str, message: str) -> None:
    folder = written(tmp_path, ring())
    path = folder / "valid.dgl"
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(DataError, match=rf"valid.dgl: {message}.*Remedy"):
        kgtool.load_dataset(folder)


def test_a_graph_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, ring())
    path = str(folder / "train.dgl")
    (graph,), labels = dgl.load_graphs(path)

    def refused(graphs: list[dgl.DGLGraph], given: dict[str, torch.Tensor], message: str) -> None:
        dgl.save_graphs(path, graphs, given)
        with pytest.raises(DataError, match=rf"train.dgl: .*{message}.*Remedy"):
            kgtool.load_dataset(folder)

    refused([graph, graph], labels, "2 graphs where one is expected")
    refused([graph], labels | {"order": labels["order"].clamp(min=1)}, "order of its edges")
    refused([graph], labels | {"entities": labels["entities"][:1]}, "1 labels of entities")
    refused([graph], labels | {"entities": labels["entities"] | 128}, "not UTF-8")
    bare = dgl.graph(([0], [1]))
    refused([bare], {}, "no field 'edge_type'")
    beyond = dgl.heterograph({("entity", "r", "entity"): ([-1], [0])}, num_nodes_dict={"entity": 2})
    refused([beyond], {}, "an edge of 'r' has an unknown node")


def test_the_graph_of_a_data_set_gives_it_back() -> None:
    data = random_dataset(2)
    again = kgtool.dataset_of(
        data.graph, entities=data.vocabulary.entities, relations=data.vocabulary.relations
    )
    assert sorted(labelled(again, "train")) == sorted(labelled(data, "train"))


def of_dgl_data(data: KGDataset) -> dgl.DGLGraph:
    """A graph as `dgl.data.FB15k237Dataset` makes it: all splits, and then their inverses."""
    triples = torch.cat([data.split(split) for split in SPLITS])
    both = with_inverses(triples, data.num_relations)
    graph = dgl.graph((both[:, 0], both[:, 2]), num_nodes=data.num_entities)
    graph.edata["etype"] = both[:, 1]
    graph.ndata["ntype"] = torch.zeros(data.num_entities, dtype=torch.long)
    sizes = torch.tensor([len(data.split(split)) for split in SPLITS])
    of_split = torch.arange(3).repeat_interleave(sizes)
    direct = torch.cat([of_split, torch.full_like(of_split, -1)])
    for i, (ours, theirs) in enumerate((("train", "train"), ("valid", "val"), ("test", "test"))):
        graph.edata[f"{ours}_edge_mask"] = direct == i
        graph.edata[f"{theirs}_mask"] = of_split.repeat(2) == i
    return graph


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_graph_as_dgls_own_data_sets_hold_it(as_bytes: bool) -> None:
    data = random_dataset(3)
    graph = of_dgl_data(data)
    if as_bytes:  # as dgl.save_graphs leaves masks
        for name in list(graph.edata):
            if name.endswith("mask"):
                graph.edata[name] = graph.edata[name].byte()
    labels: dict[str, Any] = {
        "entities": data.vocabulary.entities,
        "relations": data.vocabulary.relations,
    }
    again = kgtool.dataset_of(graph, **labels)
    for split in SPLITS:
        assert labelled(again, split) == labelled(data, split)
    # What is given for a split goes before masks.
    apart = kgtool.dataset_of(data.train, data.valid, **labels)
    assert len(apart.test) == 0
    for name in ("train_edge_mask", "valid_edge_mask", "test_edge_mask"):
        del graph.edata[name]
    names = [*data.vocabulary.relations, *(f"^{r}" for r in data.vocabulary.relations)]
    whole = kgtool.dataset_of(graph, entities=data.vocabulary.entities, relations=names)
    for split in SPLITS:
        assert len(whole.split(split)) == 2 * len(data.split(split))


def test_a_data_set_has_the_types_of_its_types_file(tmp_path: Path) -> None:
    data = ring()
    place = write_folder(data, tmp_path / "ring")
    assert kgtool.load_dataset(place).types == {}
    first, second, *_ = data.vocabulary.entities
    (place / "types.tsv").write_text(f"{first}\tcity\n{first}\tport\n{second}\triver\n")
    types = {first: ("city", "port"), second: ("river",)}
    loaded = kgtool.load_dataset(place)
    assert loaded.types == types
    assert loaded.fingerprint == data.fingerprint
    assert loaded.graph.ntypes == ["city", "entity", "river"]
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", place)
    assert kgtool.load_dataset(packed).types == types
    for to in ("tsv", "dgl"):
        _, files = kgtool.convert(place, tmp_path / to, to=to)
        assert files[-1].name == "types.tsv"
        again = kgtool.load_dataset(tmp_path / to)
        assert (again.types, again.fingerprint) == (types, data.fingerprint)
    (place / "types.tsv").write_text("elsewhere\tcity\n")
    with pytest.raises(DataError, match=r"types\.tsv: none of its labels .* is a label"):
        kgtool.load_dataset(place)


def test_node_types_of_a_notebooks_graph_are_entity_types() -> None:
    pair = (torch.tensor([0, 1]), torch.tensor([1, 0]))
    graph = dgl.heterograph({("gene", "causes", "disease"): pair, ("gene", "binds", "gene"): pair})
    data = kgtool.dataset_of(graph)
    assert data.types == {
        "gene:0": ("gene",), "gene:1": ("gene",),
        "disease:0": ("disease",), "disease:1": ("disease",),
    }  # fmt: skip
    assert data.graph.ntypes == ["disease", "gene"]
    assert data.graph.canonical_etypes == [("gene", "r0", "gene"), ("gene", "r1", "disease")]
    given = kgtool.dataset_of(graph, types={"gene:0": ["kinase", "gene"]})
    assert given.types == {"gene:0": ("kinase", "gene")}
