"""One R-GCN layer, forward and backward: kgtool, a lower limit, and the layers of DGL and PyG.

All run in one process on the same graph, states and copied weights. The benchmark compares
outputs and all gradients, so that it times the same function; it fails if they differ.

The lower limit of a layer is the work of any implementation that uses linearity:
  the dense products, measured alone on the same shapes, and
  reading rows: E·d·4 bytes forward, and E·B·d·4 (basis) or E·d·4 (block) backward,
  measured with a kernel that reads these rows in the order of edges and adds them up.

    python -m benchmarks.encoder --data FB15k-237.tar.gz
    python -m benchmarks.encoder --synthetic --entities 1000 --triples 5000 --relations 20 --dim 40
"""

from __future__ import annotations

import argparse
import gc
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

# Import first: kgtool must be imported before torch.
from benchmarks import common
from benchmarks.common import console, megabytes

# isort: split
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.rgcn import Decomposition, RGCNLayer
from kgtool.ops.runtime.compiling import FASTMATH, match_threads

TOLERANCE = 1e-4  # of the largest value of a tensor: float32 sums in a different order


@dataclass(frozen=True)
class Layer:
    """A layer to time.

    Attributes:
        name: its name in the table.
        forward: `(N, d)` states → `(N, d)`.
        parameters: the matrices, the coefficients if any, the self loop, with kgtool's values.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    parameters: list[Tensor]


@dataclass(frozen=True)
class Problem:
    """The inputs of all layers: the graph, `1/c` of its edges, states, the output's gradient."""

    graph: KnowledgeGraph
    scale: Tensor
    x: Tensor
    grad_out: Tensor

    @property
    def dim(self) -> int:
        """d."""
        return self.x.shape[1]

    def run(self, layer: Layer) -> list[Tensor]:
        """The output and the gradients of the states and the parameters, flat."""
        leaves = [self.x, *layer.parameters]
        for leaf in leaves:
            leaf.grad = None
        out = layer.forward(self.x)
        out.backward(self.grad_out)
        return [
            out.detach().flatten(),
            *(leaf.grad.flatten() for leaf in leaves if leaf.grad is not None),
        ]


def kgtool_layer(
    problem: Problem, decomposition: Decomposition, parts: int
) -> tuple[Layer, RGCNLayer]:
    """kgtool's layer, and its module; the other layers copy its weights."""
    ours = RGCNLayer(problem.dim, problem.dim, problem.graph.num_relation_ids, decomposition, parts)
    if decomposition == "basis":
        parameters: list[Tensor] = [ours.bases, ours.coefficients, ours.self_loop]
    else:
        parameters = [ours.blocks, ours.self_loop]
    return Layer(
        "kgtool", lambda x: ours.propagate(x, problem.graph.csc, problem.scale), parameters
    ), ours


def linear_layer(problem: Problem, ours: RGCNLayer) -> Layer:
    """The basis layer by linearity, with a weighted sum of `dgl.ops` for each basis."""
    import dgl

    graph = problem.graph
    edges = dgl.graph((graph.head, graph.tail), num_nodes=graph.num_entities).int()
    edges.create_formats_()
    bases, coefficients, self_loop = (
        tensor.detach().clone().requires_grad_()
        for tensor in (ours.bases, ours.coefficients, ours.self_loop)
    )

    def forward(x: Tensor) -> Tensor:
        out = x @ self_loop
        for basis, coefficient in zip(bases, coefficients.unbind(1), strict=True):
            weight = (problem.scale * coefficient[graph.relation]).unsqueeze(1)  # (E, 1)
            out = out + dgl.ops.u_mul_e_sum(edges, x, weight) @ basis
        return out

    return Layer("linear form on dgl.ops", forward, [bases, coefficients, self_loop])


def dgl_layer(problem: Problem, ours: RGCNLayer, parts: int) -> Layer:
    """`dgl.nn.RelGraphConv` with our weights and normalisation, on edges sorted by relation.

    For unsorted edges, it copies a d × d matrix for each edge (87 GB on FB15k-237).
    """
    import dgl
    from dgl.nn.pytorch import RelGraphConv

    graph, basis = problem.graph, ours.decomposition == "basis"
    order = torch.argsort(graph.relation, stable=True)
    edges = dgl.graph((graph.head[order], graph.tail[order]), num_nodes=graph.num_entities)
    edges.create_formats_()
    relation, norm = graph.relation[order], problem.scale[order].unsqueeze(1)
    peer = RelGraphConv(
        problem.dim, problem.dim, graph.num_relation_ids, "basis" if basis else "bdd", parts,
        bias=False, self_loop=True,
    )  # fmt: skip
    weights = peer.linear_r
    pairs = [(weights.W, ours.bases if basis else ours.blocks)]
    pairs += [(weights.coeff, ours.coefficients)] if basis else []
    pairs += [(peer.loop_weight, ours.self_loop)]
    return Layer(
        "dgl.nn.RelGraphConv",
        lambda x: peer(edges, x, relation, norm, presorted=True),
        _copied(pairs),
    )


def pyg_layer(problem: Problem, ours: RGCNLayer, parts: int) -> Layer:
    """PyG's `RGCNConv` with our weights; its mean over each relation's edges equals our `1/c`."""
    graph, basis = problem.graph, ours.decomposition == "basis"
    peer: Any = importlib.import_module("torch_geometric.nn").RGCNConv(
        problem.dim, problem.dim, graph.num_relation_ids, aggr="mean", bias=False,
        **{"num_bases" if basis else "num_blocks": parts},
    )  # fmt: skip
    order = torch.argsort(graph.relation, stable=True)
    edges, relation = torch.stack([graph.head, graph.tail]).long()[:, order], graph.relation[order]
    pairs = [(peer.weight, ours.bases if basis else ours.blocks)]
    pairs += [(peer.comp, ours.coefficients)] if basis else []
    pairs += [(peer.root, ours.self_loop)]
    return Layer("PyG RGCNConv", lambda x: peer(x, edges, relation), _copied(pairs))


@torch.no_grad()
def _copied(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Copy the values of each second tensor to the first; return the first tensors."""
    for theirs, mine in pairs:
        theirs.copy_(mine.reshape(theirs.shape))
    return [theirs for theirs, _ in pairs]


@numba.njit(parallel=True, fastmath=FASTMATH)
def _read(chunks, offsets, rows, x, total):  # type: ignore[no-untyped-def]
    for chunk in numba.prange(len(chunks) - 1):
        added = x.dtype.type(0)
        first, last = offsets[chunks[chunk]], offsets[chunks[chunk + 1]]
        # Four rows at a time, so that the kernel waits for the reads and not for the sum.
        for e in range(first, last - 3, 4):
            r0, r1, r2, r3 = rows[e], rows[e + 1], rows[e + 2], rows[e + 3]
            for d in range(x.shape[1]):
                added += (x[r0, d] + x[r1, d]) + (x[r2, d] + x[r3, d])
        for e in range(last - (last - first) % 4, last):
            for d in range(x.shape[1]):
                added += x[rows[e], d]
        total[chunk] = added


def read_seconds(
    chunks: NDArray[np.int64], offsets: NDArray[np.int32], rows: NDArray[np.int32], width: int,
    num_rows: int, repeats: int,
) -> float:  # fmt: skip
    """Seconds to read a row of `width` floats, of `num_rows`, per edge, in the order of edges."""
    match_threads()
    x, total = np.ones((num_rows, width), np.float32), np.zeros(len(chunks), np.float32)
    return common.median_seconds(lambda: _read(chunks, offsets, rows, x, total), repeats)[0]


def dense_seconds(rows: int, width_in: int, width_out: int, repeats: int) -> float:
    """Seconds of a product `(rows, in) @ (in, out)` and of the two products of its backward."""
    x, w, g = (
        torch.rand(rows, width_in),
        torch.rand(width_in, width_out),
        torch.rand(rows, width_out),
    )
    out, grad_x, grad_w = torch.empty_like(g), torch.empty_like(x), torch.empty_like(w)

    def products() -> None:
        torch.mm(x, w, out=out)
        torch.mm(g, w.t(), out=grad_x)
        torch.mm(x.t(), g, out=grad_w)

    return common.median_seconds(products, repeats)[0]


def print_floor(
    problem: Problem, decomposition: Decomposition, parts: int, ours: float, repeats: int
) -> None:
    """Measure the lower limit, and print its ratio to `ours` seconds."""
    graph, d, n = problem.graph, problem.dim, problem.graph.num_entities
    index, basis = graph.csc, decomposition == "basis"
    loop = dense_seconds(n, d, d, repeats)
    if basis:
        products = dense_seconds(n, parts * d, d, repeats)
        gflop = 6 * n * d * d * (parts + 1) / 1e9
        note = "(N, B·d) (B·d, d) and (N, d) (d, d), each with two backward products"
    else:
        # No library has a product of this shape; assume the speed of the dense products.
        flop = 6 * graph.num_groups * d * (d // parts)
        products = flop * loop / (6 * n * d * d)
        gflop = (flop + 6 * n * d * d) / 1e9
        note = (
            f"(N, d) (d, d) with two backward products, measured, and 3·2·G·d·d/K flop of block "
            f"products, G = {graph.num_groups:,} (tail, relation) pairs, at the same speed"
        )
    dense = loop + products
    width = parts * d if basis else d
    forward = read_seconds(index.chunks, index.offsets, index.source, d, n, repeats)
    backward = read_seconds(
        index.reverse.chunks, index.reverse.offsets, index.reverse.destination, width, n, repeats
    )
    size = [4 * graph.num_edges * d, 4 * graph.num_edges * width]
    back = "E·B·d·4" if basis else "E·d·4"
    console.print(
        f"dense products  {dense:.4f} s, {gflop:.1f} GFLOP at {gflop / dense:.0f} GFLOP/s ({note})"
    )
    console.print(
        f"reading rows    {forward + backward:.4f} s: E·d·4 = {megabytes(size[0])} forward at "
        f"{size[0] / forward / 1e9:.1f} GB/s, {back} = {megabytes(size[1])} backward at "
        f"{size[1] / backward / 1e9:.1f} GB/s"
    )
    floor = dense + forward + backward
    console.print(
        f"[bold]lower limit     {floor:.4f} s; kgtool takes {ours / floor:.2f} times as long[/]"
    )


def deviation(expected: list[Tensor], actual: list[Tensor]) -> float:
    """The largest difference of any tensor, relative to its largest value."""
    pairs = zip(expected, actual, strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)) for a, b in pairs)


def compare(
    problem: Problem, decomposition: Decomposition, parts: int, args: argparse.Namespace
) -> bool:
    """Time one decomposition in all implementations; return whether their results are equal."""
    layer, ours = kgtool_layer(problem, decomposition, parts)
    seconds, expected = common.median_seconds(lambda: problem.run(layer), args.repeats)
    rows = [[layer.name, f"{seconds:.4f}", str(args.repeats), "1.0", "—"]]
    # A function that makes a layer, its runs, and whether to warm up (minutes for slow layers).
    makers: list[tuple[Callable[[], Layer], int, bool]] = []
    if decomposition == "basis":
        makers.append((lambda: linear_layer(problem, ours), args.repeats, True))
    if not args.no_peers:
        makers.append((lambda: dgl_layer(problem, ours, parts), args.peer_repeats, False))
        if args.pyg:
            makers.append((lambda: pyg_layer(problem, ours, parts), args.peer_repeats, False))
    worst = 0.0
    for make, repeats, warm_up in makers:
        peer = make()
        taken, actual = common.median_seconds(partial(problem.run, peer), repeats, warm_up)
        off = deviation(expected, actual)
        worst = max(worst, off)
        rows.append(
            [peer.name, f"{taken:.4f}", str(repeats), f"{taken / seconds:.1f}", f"{off:.1e}"]
        )
        del peer, actual
        gc.collect()
    title = f"{parts} bases" if decomposition == "basis" else f"{parts} diagonal blocks"
    common.print_table(
        f"{title}, {problem.dim} dims, forward and backward",
        ["", "seconds", "runs", "times kgtool", "difference"],
        rows,
    )
    print_floor(problem, decomposition, parts, seconds, args.repeats)
    if worst > TOLERANCE:
        console.print(
            f"[bold red]Unfair comparison: an output or a gradient differs by {worst:.1e}.[/]"
        )
    return worst <= TOLERANCE


def main() -> int:
    """Parse the arguments, measure, and return the exit status: 1 if results differ."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=200, help="d (%(default)s)")
    parser.add_argument(
        "--bases", type=common.positive, default=2, metavar="B", help="bases (%(default)s)"
    )
    parser.add_argument(
        "--blocks", type=common.positive, default=20, metavar="K", help="blocks (%(default)s)"
    )
    parser.add_argument(
        "--decomposition",
        choices=("basis", "block"),
        action="append",
        help="only this decomposition; may be repeated",
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="skip DGL's and PyG's layers (minutes)"
    )
    parser.add_argument(
        "--peer-repeats", type=common.positive, default=1, metavar="N",
        help="runs of DGL's and PyG's layers, without a warm-up (%(default)s)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.dim % args.blocks:
        parser.error(f"{args.blocks} blocks do not divide {args.dim} dims")
    data = common.dataset(args)
    common.describe(data)
    torch.manual_seed(args.seed)
    graph = KnowledgeGraph.from_dataset(data)
    console.print(
        f"[bold]graph[/]     {graph.num_edges:,} edges, {graph.num_relation_ids} relation ids, "
        f"{graph.num_groups:,} (tail, relation) pairs"
    )
    x = torch.randn(graph.num_entities, args.dim, requires_grad=True)
    problem = Problem(graph, graph.scale(None, x.dtype), x, torch.randn(x.shape))
    args.pyg = not args.no_peers and common.installed("torch_geometric")
    decompositions: list[Decomposition] = args.decomposition or ["basis", "block"]
    equal = [
        compare(problem, name, args.bases if name == "basis" else args.blocks, args)
        for name in decompositions
    ]
    console.print(f"\npeak memory of the whole run: {megabytes(common.peak_bytes())}")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    raise SystemExit(main())
