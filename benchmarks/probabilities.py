"""Reliability of the probabilities of `predict` and `complete`, on facts that are known to exist.

The test triples leave the data of a run, so that the graph lacks them and nobody counts them as
known. Then their number is the true value of `--assumed-missing`, and the share of the answers that
test confirms is known for each probability. Nothing is fitted on test.

    python -m benchmarks.probabilities runs/umls
    python -m benchmarks.probabilities runs/umls --assumed-missing 300   # a wrong assumption
"""

from __future__ import annotations

import argparse
from dataclasses import replace

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import kgtool
from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.labels import LabelIndex
from kgtool.data.statistics import Expected
from kgtool.inference.predictor import Predictor

TOP = (100, 200, 500)
# Bounds of the bins of probability.
BINS = (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1)


def bins_of(
    kind: str, probability: NDArray[np.float64], holds: NDArray[np.bool_]
) -> list[list[str]]:
    """Rows of the reliability table, and a row for all."""
    place = np.digitize(probability, BINS[1:-1])
    rows = []
    for i in np.unique(place).tolist():
        inside = place == i
        name = f"{BINS[i]:g} to {BINS[i + 1]:g}"
        rows.append([kind, name, *_figures(probability[inside], holds[inside])])
    return [*rows, [kind, "all", *_figures(probability, holds)]]


def _figures(probability: NDArray[np.float64], holds: NDArray[np.bool_]) -> list[str]:
    count, right = len(holds), int(holds.sum())
    return [f"{count:,}", f"{probability.sum():,.1f}", f"{right:,}",
            f"{probability.mean():.4f}", f"{holds.mean():.4f}"]  # fmt: skip


def in_test(frame: pd.DataFrame, data: kgtool.KGDataset, test: AnswerIndex) -> NDArray[np.bool_]:
    """`(n,)`, whether test has each row's triple."""
    entities, steps = data.vocabulary.entity_ids, data.vocabulary.step_ids
    ids = [
        (entities[row.head], steps[row.relation], entities[row.tail]) for row in frame.itertuples()
    ]
    return test.contains(torch.tensor(ids).view(-1, 3)).numpy()


def main() -> int:
    """Parse the arguments, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run on data with a test split")
    parser.add_argument(
        "--assumed-missing", type=common.positive, metavar="N",
        help="facts that the graph is assumed to lack; by default the true number, that of test",
    )  # fmt: skip
    parser.add_argument(
        "--entities", type=common.positive, default=200, metavar="N",
        help="entities whose queries are asked (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--ends", type=common.positive, default=60, metavar="N",
        help="heads, and tails, of the random pairs: each with each (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    args = parser.parse_args()
    run = kgtool.Run.open(args.run)
    whole = run.dataset()
    common.describe(whole)
    data = replace(whole, test=whole.test[:0])
    test = answer_index(whole.test, whole.num_relations)
    labels = LabelIndex(data.vocabulary)
    missing = args.assumed_missing or len(whole.test)
    predictor = Predictor(run, data, run.scorer(data), labels, given_missing=missing)
    generator = torch.Generator().manual_seed(args.seed)
    columns = ["", "answers", "sum of probability", "in test", "mean probability", "share in test"]
    found = kgtool.complete(predictor, top=max(TOP))
    right, chance = in_test(found, data, test), found["probability"].to_numpy()
    rows = [[f"the first {n:,}", *_figures(chance[:n], right[:n])] for n in TOP]
    common.print_table(f"complete; {missing:,} facts assumed to be missing", columns, rows)

    entities, steps = data.vocabulary.entities, data.vocabulary.steps
    drawn = torch.randperm(data.num_entities, generator=generator)[: args.entities]
    hr, _ = Expected(data.train, data.num_entities, data.num_relations).questions(drawn)
    asked = {tuple(query) for query in hr.tolist()}
    asked |= {tuple(query) for query in test.hr.tolist() if query[0] in set(drawn.tolist())}
    queries = [(entities[h], steps[r], "?") for h, r in sorted(asked)]
    answers = kgtool.predict(predictor, queries, any_type=True)
    chance = answers["probability"].to_numpy()
    rows = bins_of("(h, r, ?)", chance, in_test(answers, data, test))

    # Any tail of the same queries: a list of candidates from somewhere else.
    tails = torch.randint(data.num_entities, (len(queries),), generator=generator).tolist()
    given = [(h, r, entities[t]) for (h, r, _), t in zip(queries, tails, strict=True)]
    scored = kgtool.score_triples(predictor, given)
    scored = scored[scored["known"] == ""]
    chance = scored["probability"].to_numpy()
    rows += bins_of("(h, r, t), random tails", chance, in_test(scored, data, test))

    ends = [torch.randperm(data.num_entities, generator=generator)[: args.ends] for _ in range(2)]
    queries = [(entities[h], "?", entities[t]) for h, t in torch.cartesian_prod(*ends).tolist()]
    answers = kgtool.predict(predictor, queries, top=data.num_relations, any_type=True)
    chance = answers["probability"].to_numpy()
    rows += bins_of("(h, ?, t), random pairs", chance, in_test(answers, data, test))
    columns = ["query", "probability", *columns[1:]]
    common.print_table("Reliability", columns, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
