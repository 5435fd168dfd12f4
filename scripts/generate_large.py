"""Write a large knowledge graph with the shape of Wikidata5M and with known composition rules.

    python scripts/generate_large.py OUT --entities 4800000 --triples 20000000 --relations 822

The script writes `train.txt`, `valid.txt` and `test.txt` (`head relation tail`, tab-separated). It
also writes `rules.tsv`, the planted rules, and `test.rules.tsv`, the rule of each line of test.

`large_graph.py` makes the graph. The script writes it piece by piece: 20 million triples take 10 s
and 0.4 GB, a quarter of it for imports. The same arguments give the same bytes, for any size of a
piece. The order of lines is random, and labels do not reveal types.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # Python adds only the script's folder
from scripts.large_graph import Graph, apportioned, key_of, plan, shuffled
from scripts.make_families import between, write_files

Ints = NDArray[np.int64]

PIECE = 2**20  # lines per piece
PLANTED = 0.7  # share of rule facts among held-out triples


def hold_out(graph: Graph, count: int) -> Ints:
    """Choose held-out facts: 70 % are true conclusions of rules.

    Returns:
        `(count,)`, the numbers of the facts, in random order.

    Raises:
        ValueError: if there are not enough facts.
    """
    planted = round(PLANTED * count)
    chosen = []
    bounds = graph.bounds
    for rules, total in ((True, planted), (False, count - planted)):
        parts = [
            i for i, facts in enumerate(graph.facts) if facts.hidden and (facts.rule > 0) == rules
        ]
        shares = apportioned([float(graph.facts[i].count) for i in parts], total)
        for i, share in zip(parts, shares, strict=True):
            facts = graph.facts[i]
            # At most half of the facts; their order is random already.
            at = np.arange(min(facts.count // 2, 3 * share + 16))
            at = (at[facts.stated(at)[2]] if rules else at)[:share]
            if len(at) < share:
                raise ValueError(f"{count} held-out triples are too many")
            chosen.append(bounds[i] + at)
    numbers = np.concatenate(chosen)
    return numbers[shuffled(key_of(graph.key, "held out"), np.arange(count), count)]


def open_ends(graph: Graph, numbers: Ints) -> Ints:
    """`(n,)`: the number of possible starts for the end of each held-out fact, given the rules.

    These are the fact's own start, and the starts whose body path leads to the end but whose
    conclusion is not in the graph. The number is 0 for a fact without a rule. A rule determines the
    end for a start. For an end, all n possible starts are equally likely, so the mean rank of the
    true one is (n + 1) / 2.
    """
    bounds = graph.bounds
    starts = np.zeros(len(numbers), np.int64)
    for i, facts in enumerate(graph.facts):
        rows = np.flatnonzero((bounds[i] <= numbers) & (numbers < bounds[i + 1]))
        if not facts.rule or not len(rows):
            continue
        ends, row = np.unique(facts.ends(numbers[rows] - bounds[i])[1], return_inverse=True)
        silent = np.zeros(len(ends), np.int64)
        for first in range(facts.count, facts.bodies, PIECE):
            end = facts.ends(np.arange(first, min(first + PIECE, facts.bodies)))[1]
            place = np.searchsorted(ends, end).clip(max=len(ends) - 1)
            silent += np.bincount(place[ends[place] == end], minlength=len(ends))
        starts[rows] = 1 + silent[row]
    return starts


# --- files


def lines(graph: Graph, hrt: Ints) -> memoryview:
    """Triples as text, a line `Q7⇥P1⇥Q3` each."""
    head, tail = (pa.array(graph.entity_numbers(hrt[:, i])).cast(pa.string()) for i in (0, 2))
    relation = pa.array(graph.relation_numbers(hrt[:, 1])).cast(pa.string())
    text = pc.binary_join_element_wise("Q", head, "\tP", relation, "\tQ", tail, "\n", "")
    start, end = (np.frombuffer(text.buffers()[1], np.int32)[[0, len(text)]]).tolist()
    return memoryview(text.buffers()[2])[start:end]


def train_pieces(graph: Graph, held: Ints, piece: int) -> Iterator[Ints]:
    """The triples of all facts except held-out ones, in random order, in pieces."""
    total = int(graph.bounds[-1])
    hidden = np.sort(held)
    for first in range(0, total, piece):
        at = np.arange(first, min(first + piece, total))
        number = shuffled(key_of(graph.key, "lines"), at, total)
        place = np.searchsorted(hidden, number).clip(max=len(hidden) - 1)
        yield graph.triples(number[hidden[place] != number])[0]


def rule_lines(graph: Graph, valid: Ints, test: Ints) -> Iterator[str]:
    """`rules.tsv`: each rule, its confidence, and its facts in train, valid and test."""
    yield "rule\tbody\trelation\tconfidence\ttrain\tvalid\ttest\n"
    bounds = graph.bounds
    for i, facts in enumerate(graph.facts):
        if facts.rule:
            numbers = graph.relation_numbers(np.array([*facts.body, facts.relation])).tolist()
            body = "/".join(f"{'^' * facts.backwards}P{n}" for n in numbers[:-1])
            held = [int(((bounds[i] <= s) & (s < bounds[i + 1])).sum()) for s in (valid, test)]
            counts = "\t".join(str(n) for n in (facts.count - sum(held), *held))
            yield f"{facts.rule}\t{body}\tP{numbers[-1]}\t{facts.confidence}\t{counts}\n"


def allowed(graph: Graph, numbers: Ints) -> tuple[Ints, Ints]:
    """`(n,)` each: the numbers of tails and of heads that each fact's rule allows, or 0."""
    backwards = {facts.rule: facts.backwards for facts in graph.facts}
    rule, open_ = graph.triples(numbers)[1], open_ends(graph, numbers)
    turned = np.array([backwards[one] for one in rule.tolist()], np.bool_)
    one = np.minimum(rule, 1)
    return np.where(turned, open_, one), np.where(turned, one, open_)


def test_lines(graph: Graph, test: Ints) -> Iterator[str]:
    """`test.rules.tsv`: each line of test, its rule, and the numbers of tails and heads allowed."""
    yield "head\trelation\ttail\trule\ttails\theads\n"
    hrt, rule = graph.triples(test)
    columns = (rule, *allowed(graph, test))
    text = bytes(lines(graph, hrt)).decode().splitlines()
    for line, *cells in zip(text, *(column.tolist() for column in columns), strict=True):
        yield "\t".join([line, *(str(cell or "") for cell in cells)]) + "\n"


def write(graph: Graph, held_out: int, out: Path) -> dict[str, Ints]:
    """Write the five files.

    Returns:
        The numbers of the facts of valid and of test.
    """
    held = hold_out(graph, 2 * held_out)
    valid, test = held[:held_out], held[held_out:]
    texts: dict[str, Iterator[bytes | memoryview]] = {
        "train.txt": (lines(graph, hrt) for hrt in train_pieces(graph, held, PIECE)),
        "valid.txt": iter([lines(graph, graph.triples(valid)[0])]),
        "test.txt": iter([lines(graph, graph.triples(test)[0])]),
        "rules.tsv": (line.encode() for line in rule_lines(graph, valid, test)),
        "test.rules.tsv": (line.encode() for line in test_lines(graph, test)),
    }
    write_files(out, texts)
    return {"valid": valid, "test": test}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with code 2 if an argument cannot be used."""
    parser = argparse.ArgumentParser(description="Write a large knowledge graph with known rules.")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    sizes = {
        "entities": (between(500, 10**8), 4_800_000, "500 to 10^8"),
        "triples": (between(1000, 10**9), 20_000_000, "train triples, 1000 to 10^9"),
        "relations": (between(30, 10_000), 822, "30 to 10^4"),
        "held-out": (between(1, 10**6), 5000, "triples in valid and in test each, 1 to 10^6"),
        "seed": (between(0, 2**32 - 1), 0, "0 to 2^32 - 1"),
    }
    for name, (kind, usual, text) in sizes.items():
        parser.add_argument(f"--{name}", type=kind, default=usual, help=f"{text} (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        total = args.triples + 2 * args.held_out
        graph = plan(args.entities, args.relations, total, args.seed)
        held = write(graph, args.held_out, args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"train\t{args.triples} triples")
    for split, numbers in held.items():
        planted = [of[of > 0] for of in allowed(graph, numbers)]
        tail, head = ((2 / (1 + of)).mean() if len(of) else 0.0 for of in planted)
        print(
            f"{split}\t{args.held_out} triples, {len(planted[0])} by rules; "
            f"MRR of a model that knows the rules: {tail:.3f} for tails, {head:.3f} for heads"
        )


if __name__ == "__main__":
    main()
