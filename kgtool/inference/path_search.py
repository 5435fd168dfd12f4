"""The search for paths that contribute to a score, by the gradients of the model's pass.

A score is a sum over the walks from head to tail. Let `J_e` be the derivative of an entity's new
state by the state that edge `e` brings to it. A walk of edges `e_1 … e_k` contributes

    ⟨∂score/∂s_t, J_{e_k} … J_{e_1} init⟩,

summed over the layers at which the pass can take it: a state may wait between two edges. Gates,
divisors and slopes are constants in these derivatives (see `path_rows`), so the contributions of
all walks sum to the score, except for biases. A true gradient would give a single walk nothing,
since messages are normalised.

All walks over the same entities are one path. The search goes backwards from the tail. The product
of a path's gradient so far and the current state is the contribution of all walks with this ending.
A beam keeps the endings with the largest contributions of either sign, similar to NBFNet's search
by gradients of edges (Zhu et al. 2021, 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.scorers import PassScorer
from kgtool.ops import Reach, Region, in_edges, offsets_of, path_rows

# A path as slots of the pass, from head to tail; the ending of a path is a path too.
Slots = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PathSearch:
    """A pass from a head, and the gradient of a triple's score at the tail.

    Attributes:
        decoder: in evaluation mode.
        reached: the entities of the pass.
        states: the states after each layer, without padding rows.
        slot: the slot of the tail.
        gradient: `(1, d)`, of the score by the tail's last state.
    """

    decoder: AllPathsDecoder
    reached: Reach | Region
    states: list[Tensor]
    slot: int
    gradient: Tensor

    @classmethod
    def of(cls, passes: PassScorer, triple: tuple[int, int, int]) -> PathSearch | None:
        """The pass of a triple; None if it does not reach the tail."""
        decoder, feed = passes.decoder, passes.feed
        head, relation, tail = triple
        reached = decoder.reach(passes.graph, torch.tensor([head]))
        with torch.no_grad():
            states = [s[: reached.rows(i)] for i, s in enumerate(decoder.states(reached, feed))]
        slot = int(reached.slot_of(torch.tensor([0]), torch.tensor([tail])))
        if slot >= reached.rows(decoder.layers):
            return None
        last = states[-1][slot : slot + 1]
        if feed is not None:
            last = last + feed.entities[tail]
        last = last.detach().requires_grad_()
        score = decoder.features(last) @ decoder.queries(torch.tensor([relation]), feed).t()
        (gradient,) = torch.autograd.grad(score.sum(), last)
        return cls(decoder, reached, states, slot, gradient)

    @cached_property
    def entities(self) -> list[int]:
        """The entity at each slot."""
        return self.reached.entities().tolist()

    def paths(self, beam: int) -> tuple[dict[Slots, float], bool]:
        """The paths that a beam search finds, each with its contribution.

        Args:
            beam: endings kept at each layer.

        Returns:
            The contributions, and whether the beam kept all endings.
        """
        ends, whole = _Ends(torch.tensor([self.slot]), self.gradient, [(self.slot,)]), True
        for layer in range(self.decoder.layers, 0, -1):
            ends, all_kept = self._step_back(layer, ends, beam)
            whole = whole and all_kept
        carried = (ends.gradient @ self.states[0][0]).tolist()
        found = zip(ends.path, carried, strict=True)
        return {path: weight for path, weight in found if len(path) > 1}, whole

    def parts(self, paths: Sequence[Slots]) -> list[list[dict[int, float]]]:
        """For each path and step, relation → the contribution of the path's walks over its edge.

        It takes the path's contribution with a factor of 1 for each edge. Each walk takes each step
        once, so the derivative by the factor is the part over the edge.
        """
        slot = torch.tensor([slot for path in paths for slot in path])
        begins = torch.tensor([0, *map(len, paths)]).cumsum(0)
        walked = torch.ones(len(slot), dtype=torch.bool)
        walked[begins[:-1]] = False
        after = torch.nonzero(walked).squeeze(1)  # the positions that a step leads to
        at, of = torch.unique(slot, return_inverse=True)
        layers = [self._rows(layer, at) for layer in range(1, self.decoder.layers + 1)]
        num = len(self.decoder.relations)
        taken, keys = [], []
        for rows in layers:
            step, edge = rows.edges_from(of[after], slot[after - 1])
            taken.append((after[step], edge))
            keys.append(after[step] * num + rows.relation[edge])
        key = torch.unique(torch.cat(keys))
        factor = self.gradient.new_ones(len(key), requires_grad=True)
        gradient = self.gradient.new_zeros(len(slot), self.decoder.dim)
        gradient[begins[1:] - 1] = self.gradient
        for rows, (position, edge), own in zip(layers[::-1], taken[::-1], keys[::-1], strict=True):
            g_sums, g_squares, g_old = rows.backward(of, gradient)
            scale = factor[torch.searchsorted(key, own)].unsqueeze(1)
            back = rows.carried_back(edge, g_sums[position], g_squares[position]) * scale
            waiting = torch.where(rows.waits[of].unsqueeze(1), g_old, 0.0)
            gradient = waiting.index_add(0, position - 1, back)
        carried = (gradient[begins[:-1]] @ self.states[0][0]).sum()
        (part,) = torch.autograd.grad(carried, factor)
        found: list[dict[int, float]] = [{} for _ in slot]
        for position, relation, value in zip(
            (key // num).tolist(), (key % num).tolist(), part.tolist(), strict=True
        ):
            found[position][relation] = value
        first = begins.tolist()
        return [found[a + 1 : b] for a, b in pairwise(first)]

    def _rows(self, layer: int, slot: Tensor) -> _Rows:
        """The messages at a layer to slots `(n,)`, ascending; the last may not be reached yet."""
        before, there = self.states[layer - 1], slot < len(self.states[layer])
        place, source, relation, degree, share = self.reached.arriving(layer, slot[there])
        count = pad(degree, (0, len(slot) - len(degree)))
        weight = self.decoder.weights[layer - 1].detach()
        by_edge = weight[relation] if share is None else share.unsqueeze(1) * weight[relation]
        waits = slot < len(before)
        old = torch.where(waits.unsqueeze(1), before[slot.clamp(max=len(before) - 1)], 0.0)
        return _Rows(
            self.decoder, layer, place, source, relation, count, by_edge, before[source] * by_edge,
            old, waits,
        )  # fmt: skip

    def _step_back(self, layer: int, ends: _Ends, beam: int) -> tuple[_Ends, bool]:
        """The endings before a layer: each waits, or goes back over edges to an entity.

        The second result is whether the beam kept all of them.
        """
        at, of = torch.unique(ends.slot, return_inverse=True)
        rows = self._rows(layer, at)
        g_sums, g_squares, g_old = rows.backward(of, ends.gradient)
        stay = torch.nonzero(rows.waits[of]).squeeze(1)
        # Of each choice: its contribution, the ending, and the pair of entities; -1 for waiting.
        choices = [((g_old[stay] * rows.old[of[stay]]).sum(1), stay, torch.full_like(stay, -1))]
        count = len(stay)
        order = torch.argsort(of, stable=True)
        ending, edge, pair = (
            torch.searchsorted(sorted_, torch.arange(len(at) + 1)).tolist()
            for sorted_ in (of[order], rows.place, rows.pair_place)
        )
        for i in range(len(at)):  # all endings at one entity have the same messages
            mine = order[ending[i] : ending[i + 1]]
            inside = slice(edge[i], edge[i + 1])
            message = rows.message[inside]
            by_edge = g_sums[mine] @ message.t() + 2 * (g_squares[mine] @ message.square().t())
            width = pair[i + 1] - pair[i]
            carried = by_edge.new_zeros(len(mine), width)
            carried.index_add_(1, rows.pair[inside] - pair[i], by_edge)
            count += carried.numel()
            if width:
                best = _largest(carried.flatten(), beam)
                choices.append(
                    (carried.flatten()[best], mine[best // width], pair[i] + best % width)
                )
        value, end, into = (torch.cat(column) for column in zip(*choices, strict=True))
        best = _largest(value, beam)
        end, into = end[best], into[best]
        walks = torch.nonzero(into >= 0).squeeze(1)
        slot, gradient = ends.slot[end], g_old[end]
        slot[walks], gradient[walks] = rows.pair_source[into[walks]], 0.0
        walk, edges = rows.edges_of(into[walks])
        by = end[walks][walk]
        gradient.index_add_(0, walks[walk], rows.carried_back(edges, g_sums[by], g_squares[by]))
        paths = [ends.path[i] for i in end.tolist()]
        for i, source in zip(walks.tolist(), slot[walks].tolist(), strict=True):
            paths[i] = (source, *paths[i])
        return _Ends(slot, gradient, paths).merged(), count <= beam


def _largest(values: Tensor, most: int) -> Tensor:
    """The indices of the values with the largest sizes, at most `most`."""
    return values.abs().topk(min(most, len(values))).indices


@dataclass(frozen=True, eq=False)
class _Ends:
    """Endings of paths: the current slot of each, its gradient, and its slots to the tail."""

    slot: Tensor  # (n,) int64
    gradient: Tensor  # (n, d)
    path: list[Slots]

    def merged(self) -> _Ends:
        """The same with each ending once: it may arrive here, or have waited here."""
        places: dict[Slots, int] = {}
        into = torch.tensor([places.setdefault(path, len(places)) for path in self.path])
        gradient = self.gradient.new_zeros(len(places), self.gradient.shape[1])
        slot = torch.tensor([path[0] for path in places])
        return _Ends(slot, gradient.index_add_(0, into, self.gradient), [*places])


@dataclass(frozen=True, eq=False)
class _Rows:
    """The messages to n entities at a layer, by entity.

    Attributes:
        place, source, relation: `(e,)` int64: the position of each edge's target, the slot of its
            source, and its relation.
        count: `(n,)` int64, the in-degrees.
        weight: `(e, d)`, the factor between the source's state and the message.
        message: `(e, d)`.
        old: `(n, d)`, the states before the layer; 0 for an entity that is first reached here.
        waits: `(n,)` bool, whether the entity was reached before.
    """

    decoder: AllPathsDecoder
    layer: int
    place: Tensor
    source: Tensor
    relation: Tensor
    count: Tensor
    weight: Tensor
    message: Tensor
    old: Tensor
    waits: Tensor

    @cached_property
    def _size(self) -> int:
        return int(self.source.max()) + 1 if len(self.source) else 1

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        keys, pair = torch.unique(self.place * self._size + self.source, return_inverse=True)
        return keys, pair

    @property
    def pair(self) -> Tensor:
        """`(e,)` int64: the pair of source and target of each edge; pairs are sorted by target."""
        return self._pairs[1]

    @property
    def pair_place(self) -> Tensor:
        """`(p,)` int64, ascending: the position of the target of each pair."""
        return self._pairs[0] // self._size

    @property
    def pair_source(self) -> Tensor:
        """`(p,)` int64: the slot of the source of each pair."""
        return self._pairs[0] % self._size

    def edges_of(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """All edges of pairs `(m,)`: positions in `pair`, and edges."""
        position, place = in_edges(offsets_of(self.pair.sort()[0], len(self._pairs[0])), pair)
        return position, torch.argsort(self.pair, stable=True)[place]

    def edges_from(self, place: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """All edges from sources `(m,)` to places `(m,)`: positions in both, and edges."""
        keys, key = self._pairs[0], place * self._size + source
        pair = torch.searchsorted(keys, key)
        there = torch.nonzero((source < self._size) & (pair < len(keys))).squeeze(1)
        there = there[keys[pair[there]] == key[there]]
        position, edge = self.edges_of(pair[there])
        return there[position], edge

    def backward(self, of: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Carry gradients `(m, d)` of new states back to sums, sums of squares and old states.

        Args:
            of: `(m,)` int64, the entity of each gradient.
            gradient: `(m, d)`; the results are differentiable by it if it needs a gradient.
        """
        sums = torch.zeros_like(self.old).index_add_(0, self.place, self.message)
        squares = torch.zeros_like(sums).index_add_(0, self.place, self.message.square())
        rows = [t[of].requires_grad_() for t in (sums, squares, self.old)]
        decoder = self.decoder
        new = path_rows(
            rows[0], rows[1], self.count[of], rows[2], decoder.scalers[self.layer - 1],
            decoder.matrix(), decoder.bias, held=True,
        )  # fmt: skip
        g_sums, g_squares, g_old = torch.autograd.grad(
            new, rows, gradient, create_graph=gradient.requires_grad
        )
        return g_sums, g_squares, g_old

    def carried_back(self, edge: Tensor, g_sums: Tensor, g_squares: Tensor) -> Tensor:
        """`(m, d)` gradients of the sources of edges `(m,)`, from gradients of sums at targets."""
        return (g_sums + 2 * self.message[edge] * g_squares) * self.weight[edge]
