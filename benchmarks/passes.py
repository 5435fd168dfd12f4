"""The all-paths pass, forward and backward: kgtool, a lower limit, and NBFNet's method.

All run in one process on the same graph. The limit is the bare relational product
`out[v] += s[u] ⊙ w[r]` over all edges, forward and backward, once per step. It is the time of a
pass without a GRU, without standard deviations and without the search for reached entities.
NBFNet's method makes one message per edge with torch's indexing, and one pass per query. So does
the conditional model, whose training step is measured as a whole: draws, the encoder of relations,
passes with targets and loss, and the update.

    python -m benchmarks.passes --data FB15k-237.tar.gz
    python -m benchmarks.passes --synthetic --entities 1000 --triples 5000 --relations 20
"""

from __future__ import annotations

# Import first: kgtool must be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
import torch
from torch import Tensor, nn

from kgtool.config import AllPathsConfig, Config, load_config
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.model import AllPathsModel
from kgtool.ops import in_threads
from kgtool.ops.runtime.lanes import add, kernel, lanes_of, load, multiply, store, zero
from kgtool.training.batches import PassBatch
from kgtool.training.objectives import AllPathsObjective
from kgtool.training.optimizer import training_dtype
from kgtool.training.step import Updater

TOLERANCE = 1e-4


@kernel
def _product(offsets, source, type_, weight, states, out, width):  # type: ignore[no-untyped-def]
    dims = states.shape[2]
    for b in range(len(states)):
        state, sums, w = states[b].reshape(-1), out[b].reshape(-1), weight.reshape(-1)
        for v in range(len(offsets) - 1):
            total = zero(w, width)
            for e in range(offsets[v], offsets[v + 1]):
                s, r = load(state, source[e] * dims, width), load(w, type_[e] * dims, width)
                total = add(total, multiply(s, r))
            store(sums, v * dims, total)


@kernel
def _product_backward(  # type: ignore[no-untyped-def]
    offsets, destination, type_, weight, states, grads, grad_states, grad_weights, width
):
    dims = states.shape[2]
    for b in range(len(states)):
        state, grad, w = states[b].reshape(-1), grads[b].reshape(-1), weight.reshape(-1)
        grad_state, grad_weight = grad_states[b].reshape(-1), grad_weights[b].reshape(-1)
        for u in range(len(offsets) - 1):
            s, total = load(state, u * dims, width), zero(w, width)
            for e in range(offsets[u], offsets[u + 1]):
                g, r = load(grad, destination[e] * dims, width), type_[e] * dims
                total = add(total, multiply(g, load(w, r, width)))
                store(grad_weight, r, add(load(grad_weight, r, width), multiply(g, s)))
            store(grad_state, u * dims, total)


class BareProduct:
    """The relational product of the states of B heads over the whole graph, and its gradient."""

    def __init__(self, graph: KnowledgeGraph, heads: int, dim: int) -> None:
        self.graph, self.width = graph, lanes_of(dim)
        self.weight = torch.rand(graph.num_relation_ids, dim)
        self.states = torch.rand(heads, graph.num_entities, dim)
        self.out, self.grads = torch.empty_like(self.states), torch.empty_like(self.states)
        self.grad_weights = torch.zeros(heads, *self.weight.shape)
        index = graph.csc
        self.reverse_type = index.type[index.reverse.edge]

    def __call__(self) -> None:
        in_threads(self._one, range(len(self.states)))

    def _one(self, b: int) -> None:
        index, w, part = self.graph.csc, self.weight.numpy(), slice(b, b + 1)
        s, out = self.states[part].numpy(), self.out[part].numpy()
        _product(index.offsets, index.source, index.type, w, s, out, self.width)
        _product_backward(
            index.reverse.offsets, index.reverse.destination, self.reverse_type, w, s, out,
            self.grads[part].numpy(), self.grad_weights[part].numpy(), self.width,
        )  # fmt: skip

    def check(self) -> float:
        """The largest difference between the first head's sums and torch's, relative."""
        g = self.graph
        messages = self.states[0][g.head] * self.weight[g.relation]
        expected = torch.zeros_like(self.states[0]).index_add_(0, g.tail, messages)
        return float((self.out[0] - expected).abs().max() / expected.abs().max())


class ByEdges(nn.Module):
    """A pass with NBFNet's method: a tensor of messages, a linear layer, one query."""

    def __init__(self, graph: KnowledgeGraph, dim: int, steps: int) -> None:
        super().__init__()
        self.graph, self.dim = graph, dim
        self.weights = nn.ParameterList(
            torch.rand(graph.num_relation_ids, dim) for _ in range(steps)
        )
        self.layers = nn.ModuleList(nn.Linear(3 * dim, dim) for _ in range(steps))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(steps))
        degree = torch.bincount(graph.tail, minlength=graph.num_entities)
        self.degree = degree.clamp(min=1).unsqueeze(1)

    def forward(self, head: int) -> Tensor:
        """`(N, d)`, the states after the last step."""
        g = self.graph
        state = torch.zeros(g.num_entities, self.dim)
        state[head] = 1
        for weight, layer, norm in zip(self.weights, self.layers, self.norms, strict=True):
            messages = state[g.head] * weight[g.relation]  # (E, d)
            mean = torch.zeros_like(state).index_add(0, g.tail, messages) / self.degree
            squares = torch.zeros_like(state).index_add(0, g.tail, messages.square()) / self.degree
            deviation = (squares - mean.square()).clamp(min=1e-6).sqrt()
            state = torch.relu(norm(layer(torch.cat([state, mean, deviation], 1)))) + state
        return state


def conditional_config(dim: int, layers: int, queries: int) -> Config:
    """The preset `fine-tune` in these sizes; no edge drops out, as in pre-training."""
    sizes = {
        "dim": dim, "all_paths.mlp_dim": dim, "all_paths.layers": layers,
        "all_paths.batch_size": queries, "all_paths.edge_dropout": 0.0,
    }  # fmt: skip
    return load_config("fine-tune", [f"{key}={value}" for key, value in sizes.items()])


def main() -> int:
    """Parse the arguments, measure, and return the exit status: 1 if the limit's sums are wrong."""
    parser = common.parser(__doc__)
    parser.add_argument("--dim", type=common.positive, default=32, help="d (%(default)s)")
    parser.add_argument("--layers", type=common.positive, default=4, help="L (%(default)s)")
    parser.add_argument(
        "--heads", type=common.positive, default=16, help="heads per batch (%(default)s)"
    )
    args = parser.parse_args()
    data: KGDataset = common.dataset(args)
    common.describe(data)
    torch.manual_seed(args.seed)
    graph = KnowledgeGraph.from_dataset(data)
    decoder = AllPathsDecoder(data.num_relations, args.dim, args.layers, mlp_dim=64)
    settings = AllPathsConfig(layers=args.layers, batch_size=args.heads, remove_target_edges="pair")
    answers = answer_index(data.train, data.num_relations)
    objective = AllPathsObjective(settings, AllPathsModel(decoder, graph), answers)
    heads = objective.order(args.seed, 0)[: args.heads]
    dtype = training_dtype("auto")
    parameters = list(decoder.parameters())

    def one_pass(part: Tensor) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            state = decoder(decoder.reach(graph, part))
        torch.autograd.grad(state, parameters, torch.ones_like(state), allow_unused=True)

    def all_passes() -> None:
        in_threads(one_pass, decoder.split(graph, heads))

    def train_part(part: PassBatch) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            loss, _ = objective.loss(part)
        torch.autograd.grad(loss, parameters)

    def training() -> None:
        in_threads(train_part, objective.parts(heads))

    relations = Updater(conditional_config(args.dim, args.layers, args.heads), data)
    asked = relations.objective.order(args.seed, 0)[: args.heads]

    bare, edges = BareProduct(graph, len(heads), args.dim), ByEdges(graph, args.dim, args.layers)
    before = common.peak_bytes()
    passes = common.median_seconds(all_passes, args.repeats)[0] / len(heads)
    trained = common.median_seconds(training, args.repeats)[0] / len(heads)
    peak = common.peak_bytes() - before
    conditional = common.median_seconds(lambda: relations.make_step(asked), args.repeats)[0]
    conditional /= len(asked)
    product = args.layers * common.median_seconds(bare, args.repeats)[0] / len(heads)
    query = common.median_seconds(lambda: edges(int(heads[0])).sum().backward(), 1)[0]
    queries = sum(len(part.tail) for part in objective.parts(heads)) / len(heads)
    rows = [
        ["kgtool, a pass", f"{1e3 * passes:.1f}", f"{passes / product:.2f}", ""],
        ["kgtool, with targets and loss", f"{1e3 * trained:.1f}", f"{trained / product:.2f}",
         f"{queries / trained:.0f}"],
        ["kgtool, conditional model, a training step", f"{1e3 * conditional:.1f}",
         f"{conditional / product:.2f}", f"{1 / conditional:.0f}"],
        [f"bare relational product, {args.layers} times", f"{1e3 * product:.1f}", "1", ""],
        ["NBFNet's method, one query", f"{1e3 * query:.0f}", f"{query / product:.0f}",
         f"{1 / query:.2f}"],
    ]  # fmt: skip
    common.print_table(
        f"{args.layers} layers, {args.dim} dims, forward and backward, {len(heads)} heads a batch",
        ["", "ms a pass", "times the limit", "training queries a second"],
        rows,
    )
    console.print(
        f"{queries:.1f} queries a head; {queries / trained * query:.0f} times as many queries a "
        f"second as NBFNet's method; conditional, where a pass has one query: "
        f"{query / conditional:.0f} times. Peak memory grew by {common.megabytes(peak)}."
    )
    off = bare.check()
    if off > TOLERANCE:
        console.print(f"[bold red]The limit's sums differ from torch's by {off:.1e}.[/]")
    return int(off > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
