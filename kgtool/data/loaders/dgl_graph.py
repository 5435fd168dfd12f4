"""Reads and writes the files of `dgl.save_graphs`: DGL's own binary format, which runs no code.

A file holds the heterograph of one split. Each relation is an edge type with the relation's label
as its name; entity types are node types, see `KGDataset.graph`. The file also holds two tensors,
which `dgl.load_graphs` returns too: `entities`, the labels of entities by id, in UTF-8, one per
line; and `order`, the position of each edge among the triples of the split; `weight` holds the
weights of the triples, in their order, if they have some. In a file without these
tensors, node ids are the labels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kgtool.data.dataset import NodeTypes, Vocabulary, edges_by_type, heterograph_of
from kgtool.data.loaders.memory import columns_of
from kgtool.data.loaders.rows import Rows, no_triples, rows_of
from kgtool.errors import DataError, fault, quoted
from kgtool.storage.compression import File
from kgtool.storage.files import atomic_write

# The first bytes of each file of `dgl.save_graphs`.
MAGIC = bytes.fromhex("3fa1b446f04f2edd")


def write_graph(
    path: Path,
    triples: Tensor,
    vocabulary: Vocabulary,
    types: Mapping[str, Sequence[str]],
    weights: Tensor | None = None,
) -> None:
    """Write triples `(n, 3)` int64 as a file of `dgl.save_graphs`.

    Args:
        path: the file.
        triples: `(n, 3)` int64.
        vocabulary: the labels.
        types: entity label → its types; the first one is the node type.
        weights: `(n,)` float32; None without weights.

    Raises:
        KGToolError: when the file cannot be written.
    """
    from kgtool.ops.runtime.dgl import dgl

    # DGL sorts edge types by name, so the relations are renumbered in this order.
    by_name = sorted(range(len(vocabulary.relations)), key=vocabulary.relations.__getitem__)
    place = torch.empty(len(by_name), dtype=torch.long)
    place[by_name] = torch.arange(len(by_name))
    sorted_ids = torch.stack([triples[:, 0], place[triples[:, 1]], triples[:, 2]], dim=1)
    names = [vocabulary.relations[r] for r in by_name]
    nodes = NodeTypes.of(vocabulary.entities, types)
    rows = edges_by_type(sorted_ids, names, nodes)
    graph = heterograph_of(sorted_ids, rows, len(vocabulary.entities), nodes)
    texts = "\n".join(vocabulary.entities).encode()
    labels = {
        "entities": torch.frombuffer(bytearray(texts), dtype=torch.uint8),
        "order": torch.cat([rows[kind] for kind in graph.canonical_etypes]).long(),
    }
    if weights is not None:
        labels["weight"] = weights
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "graph"
        dgl.save_graphs(str(whole), [graph], labels)
        with atomic_write(path, "wb") as file:
            file.write(whole.read_bytes())


def read_graph(file: File) -> Rows:
    """The triples of a file of `dgl.save_graphs` with one graph.

    Raises:
        DataError: for a file that is damaged, has several graphs or none, has no relations, or has
            labels that do not fit.
    """
    if not file.data.startswith(MAGIC):
        problem = "not a file of dgl.save_graphs"
        raise fault(file.place, problem, "write it with dgl.save_graphs, or rename the file")
    graphs, labels = _loaded(file)
    if len(graphs) != 1:
        problem = f"{len(graphs)} graphs where one is expected"
        raise fault(file.place, problem, "write one file per split, such as train.dgl")
    (graph,) = graphs
    entities = _entities(labels["entities"], graph, file.place) if "entities" in labels else None
    relations = None if entities is None else [name for _, name, _ in graph.canonical_etypes]
    columns = columns_of(graph, file.place, entities, relations)
    if not columns[0]:
        raise no_triples(file.place, "the graph has no edges")
    if "order" in labels:
        order = labels["order"].numpy()
        if not np.array_equal(np.sort(order), np.arange(len(columns[0]))):
            raise _damaged(file.place, "the order of its edges does not fit them")
        inverse = np.argsort(order).tolist()
        columns = [[column[i] for i in inverse] for column in columns]
    rows = rows_of(columns, np.arange(1, len(columns[0]) + 1), file.place, "edge")
    if "weight" not in labels:
        return rows
    weights = labels["weight"]
    fits = weights.shape == (len(rows.codes),) and bool(((weights > 0) & (weights <= 1)).all())
    if not fits:
        raise _damaged(file.place, "the weights of its edges do not fit them")
    return replace(rows, weights=weights.float().numpy())


def _loaded(file: File) -> tuple[list[Any], dict[str, Tensor]]:
    from kgtool.ops.runtime.dgl import dgl

    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "graph"
        whole.write_bytes(file.data)
        try:
            graphs, labels = dgl.load_graphs(str(whole))
        except dgl.DGLError as error:
            raise _damaged(file.place, str(error).splitlines()[0].rpartition(": ")[2]) from error
    for graph in graphs:
        for kind in graph.canonical_etypes:
            for ids, node_type in zip(graph.edges(etype=kind), kind[::2], strict=True):
                if len(ids) and not 0 <= ids.min() <= ids.max() < graph.num_nodes(node_type):
                    raise _damaged(file.place, f"an edge of {quoted(kind[1])} has an unknown node")
    return graphs, labels


def _entities(texts: Tensor, graph: Any, place: str) -> dict[str, list[str]]:
    """The labels of the nodes of each node type that has edges."""
    from kgtool.ops.runtime.dgl import dgl

    try:
        labels = texts.numpy().tobytes().decode().split("\n")
    except UnicodeDecodeError:
        raise _damaged(place, "the labels of entities are not UTF-8") from None
    ids = torch.arange(graph.num_nodes())
    of_type = {name: graph.nodes[name].data.get(dgl.NID, ids) for name in graph.ntypes}
    if len(of_type) == 1 and len(labels) == len(ids):
        return {graph.ntypes[0]: labels}
    parts = [nodes.long() for nodes in of_type.values()]
    if len(labels) != len(ids) or not torch.equal(torch.cat(parts).sort().values, ids):
        raise _damaged(place, f"{len(labels)} labels of entities do not fit its nodes")
    ends = {end for kind in graph.canonical_etypes for end in kind[::2]}
    return {end: [labels[i] for i in of_type[end].tolist()] for end in ends}


def _damaged(place: str, problem: str) -> DataError:
    return fault(place, f"damaged: {problem}", "write the file again")
