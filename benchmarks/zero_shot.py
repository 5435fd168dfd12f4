"""Questions to the pre-trained model about a graph that it never saw: the first, and the next ones.

After loading, the first question makes the knowledge graph, the graph of relations and the indices,
and fits probabilities. Nothing of the graph is cached before; kernels are compiled. Each further
question is another query. The limit of a question is its scoring alone, which takes one pass.

A query of a large graph is answered on a part of it. `--nearest` measures what that costs: the MRR
on a sample of valid, or of test with `--split test`, by passes over parts, and by whole passes (0).
The model reads train.

    python -m benchmarks.zero_shot --data FB15k-237.tar.gz
    python -m benchmarks.zero_shot --data FB15k-237.tar.gz --nearest 0 100 300 1000
    python -m benchmarks.zero_shot --synthetic --entities 480000 --triples 2000000 --relations 822
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import torch
from torch import Tensor

import kgtool
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation.ranking import rank_tails
from kgtool.inference.predictor import Predictor
from kgtool.models.all_paths import Parts
from kgtool.models.conditional import ConditionalScorer

T = TypeVar("T")
QUESTIONS, EXPLAINED = 20, 3


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """The wall time of one call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def queries_of(data: KGDataset, count: int, seed: int) -> list[tuple[int, int]]:
    """Heads and relations of test triples, each query once."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))
    return list(dict.fromkeys((h, r) for h, r, _ in data.test[order].tolist()))[:count]


def first_question(data: KGDataset, folder: Path, query: tuple[int, int]) -> Predictor:
    """Ask one question, with nothing cached."""
    predictor = kgtool.open_predictor(kgtool.pretrained(data, folder), data)
    ask(predictor, query)
    return predictor


def ask(predictor: Predictor, query: tuple[int, int]) -> list[str]:
    """The first answers to a query, best first."""
    names, (head, relation) = predictor.dataset.vocabulary, query
    answers = kgtool.predict(predictor, names.entities[head], names.relations[relation])
    return list(answers["tail"])


def mean_reciprocal_rank(
    scorer: ConditionalScorer, data: KGDataset, split: str, triples: Tensor
) -> float:
    """The filtered MRR of triples `(n, 3)` of a split, both sides."""
    known = answer_index(data.filter_triples(split), data.num_relations)
    both = with_inverses(triples, data.num_relations)
    ranks = rank_tails(scorer, both, known, data.num_entities).filtered.realistic
    return float(ranks.reciprocal().mean())


def rank_on_parts(args: argparse.Namespace, data: KGDataset, folder: Path) -> None:
    """Print the MRR and the time of a query for each size of parts."""
    scorer = kgtool.pretrained(data, folder).scorer(data)
    assert isinstance(scorer, ConditionalScorer)
    draw = torch.Generator().manual_seed(args.seed)
    every = data.split(args.split)
    triples = every[torch.randperm(len(every), generator=draw)[: args.ranked]]
    scorer.prepare(with_inverses(triples, data.num_relations)[:, 1])
    rows = []
    for nearest in args.nearest:
        scorer.decoder.parts = Parts(whole=0, nearest=nearest) if nearest else None
        seconds, mrr = timed(partial(mean_reciprocal_rank, scorer, data, args.split, triples))
        rows.append([f"{nearest:,}" if nearest else "whole passes", f"{mrr:.4f}",
                     f"{1e3 * seconds / (2 * len(triples)):,.1f}"])  # fmt: skip
    common.print_table(
        f"{len(triples):,} triples of {args.split}, both sides",
        ["new entities a step", "MRR", "ms a query"], rows,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, and return the exit status: 1 if two equal answers differ."""
    parser = common.parser(__doc__)
    parser.set_defaults(repeats=QUESTIONS)
    parser.add_argument(
        "--nearest", type=int, nargs="+", metavar="N", help="sizes of parts; 0 for whole passes"
    )
    parser.add_argument(
        "--ranked", type=common.positive, default=150, metavar="N",
        help="triples that are ranked with --nearest (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid",
        help="their split (%(default)s)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    loading, data = timed(lambda: common.dataset(args))
    common.describe(data)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if args.nearest:
            rank_on_parts(args, data, Path(folder) / "run")
            return 0
        return measure(args, data, loading, Path(folder))


def measure(args: argparse.Namespace, data: KGDataset, loading: float, folder: Path) -> int:
    """Measure, print the table, and return the exit status."""
    small = common.synthetic(200, 3, 400, 20, seed=1)  # compiles the kernels
    first_question(small, folder / "small", queries_of(small, 1, args.seed)[0])
    begun, *queries = queries_of(data, args.repeats + 1, args.seed)
    first, predictor = timed(lambda: first_question(data, folder / "run", begun))
    asked = [timed(partial(ask, predictor, query)) for query in queries]
    scored = [
        timed(partial(predictor.scorer.score_t, torch.tensor([query])))[0] for query in queries
    ]
    names = data.vocabulary
    explained = [
        timed(partial(predictor.explain, names.entities[h], names.relations[r], found[0]))[0]
        for (h, r), (_, found) in list(zip(queries, asked, strict=True))[:EXPLAINED]
    ]
    limit, question = median(scored), median(seconds for seconds, _ in asked)
    rows = [
        ["loading the data", f"{loading:,.2f}", ""],
        ["the first question after loading", f"{first:,.2f}", f"{first / limit:,.0f}"],
        ["a further question", f"{question:,.3f}", f"{question / limit:.2f}"],
        ["its scoring alone, one pass", f"{limit:,.3f}", "1"],
        ["an explanation", f"{median(explained):,.2f}", f"{median(explained) / limit:,.0f}"],
    ]
    common.print_table(
        f"the pre-trained model, medians of {len(asked)} questions",
        ["", "seconds", "times a pass"], rows,
    )  # fmt: skip
    return int(ask(predictor, queries[0]) != asked[0][1])


if __name__ == "__main__":
    raise SystemExit(main())
