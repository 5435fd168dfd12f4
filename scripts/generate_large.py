"""Write a large knowledge graph with the shape of Wikidata5M, whose composition rules are known.

    python scripts/generate_large.py OUT --entities 4800000 --triples 20000000 --relations 822

writes `train.txt`, `valid.txt` and `test.txt` (`head relation tail`, tab-separated), and beside
them `rules.tsv`, the planted rules, and `test.rules.tsv`, which rule gives each line of test.

The graph is `large_graph.py`'s. It is written a piece at a time: 20 million triples take 10 s and
0.4 GB, of which the imports are a quarter. The same arguments give the same bytes, whatever the
piece. Lines come in a random order, and labels tell of no type.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script finds its folder alone
from scripts.large_graph import Graph, apportioned, key_of, plan, shuffled
from scripts.make_families import between, write_files

Ints = NDArray[np.int64]

PIECE = 2**20  # lines at a time
PLANTED = 0.7  # of the held-out triples


def hold_out(graph: Graph, count: int) -> Ints:
    """The numbers of so many facts, in a random order: seven in ten are a rule's, and true.

    Raises:
        ValueError: for more than there are.
    """
    planted = round(PLANTED * count)
    found = []
    bounds = graph.bounds
    for rules, total in ((True, planted), (False, count - planted)):
        parts = [
            i for i, facts in enumerate(graph.facts) if facts.hidden and (facts.rule > 0) == rules
        ]
        shares = apportioned([float(graph.facts[i].count) for i in parts], total)
        for i, share in zip(parts, shares, strict=True):
            facts = graph.facts[i]
            # at most half of them; their order is random already
            at = np.arange(min(facts.count // 2, 3 * share + 16))
            at = (at[facts.said(at)[2]] if rules else at)[:share]
            if len(at) < share:
                raise ValueError(f"{count} held-out triples are too many")
            found.append(bounds[i] + at)
    numbers = np.concatenate(found)
    return numbers[shuffled(key_of(graph.key, "held out"), np.arange(count), count)]


def open_ends(graph: Graph, numbers: Ints) -> Ints:
    """`(n,)`: how many starts may have the end of each held-out fact, for who knows the rules.

    Its own, and those from which the body leads there and of which no conclusion is said; 0 for a
    fact of no rule. From its start a rule tells its end; from its end one start is as good as
    another, which ranks the right one at (n + 1) / 2.
    """
    bounds = graph.bounds
    found = np.zeros(len(numbers), np.int64)
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
        found[rows] = 1 + silent[row]
    return found


# --- files


def lines(graph: Graph, hrt: Ints) -> memoryview:
    """Triples as text, `Q7⇥P1⇥Q3` each."""
    head, tail = (pa.array(graph.entity_numbers(hrt[:, i])).cast(pa.string()) for i in (0, 2))
    relation = pa.array(graph.relation_numbers(hrt[:, 1])).cast(pa.string())
    text = pc.binary_join_element_wise("Q", head, "\tP", relation, "\tQ", tail, "\n", "")
    start, end = (np.frombuffer(text.buffers()[1], np.int32)[[0, len(text)]]).tolist()
    return memoryview(text.buffers()[2])[start:end]


def train_pieces(graph: Graph, held: Ints, piece: int) -> Iterator[Ints]:
    """The ids of all facts but the held-out ones, in a random order, so many at a time."""
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
    """`(n,)` each: how many tails and how many heads a fact's rule allows; 0 for no rule."""
    backwards = {facts.rule: facts.backwards for facts in graph.facts}
    rule, open_ = graph.triples(numbers)[1], open_ends(graph, numbers)
    turned = np.array([backwards[one] for one in rule.tolist()], np.bool_)
    one = np.minimum(rule, 1)
    return np.where(turned, open_, one), np.where(turned, one, open_)


def test_lines(graph: Graph, test: Ints) -> Iterator[str]:
    """`test.rules.tsv`: each line of test, its rule, and how many tails and heads that allows."""
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
    """The command line; exits with code 2 where an argument cannot be used."""
    parser = argparse.ArgumentParser(description="Make a large graph whose rules are known.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder")
    sizes = {
        "entities": (between(500, 10**8), 4_800_000, "500 to 10^8"),
        "triples": (between(1000, 10**9), 20_000_000, "of train, 1000 to 10^9"),
        "relations": (between(30, 10_000), 822, "30 to 10^4"),
        "held-out": (between(1, 10**6), 5000, "triples in valid and in test each, 1 to 10^6"),
        "seed": (between(0, 2**32 - 1), 0, "0 to 2^32 - 1"),
    }
    for name, (kind, usual, words) in sizes.items():
        parser.add_argument(f"--{name}", type=kind, default=usual, help=f"{words} (%(default)s)")
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
            f"who knows them has MRR {tail:.3f} of tails, {head:.3f} of heads"
        )


if __name__ == "__main__":
    main()
