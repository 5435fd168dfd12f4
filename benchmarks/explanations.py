"""Tests of explanations: by perturbation, and by the rules that generated the families.

The perturbation test takes an all-paths run on any data. It explains test triples and removes edges
from the graph. It gives the change of the score, in percent of the score's distance to that of an
entity that no path reaches, without the edges of:

- the first path of the explanation,
- another listed path, drawn at random,
- another path of the same length from head to tail, all walks being equally likely.

It also gives the share of first paths whose removal raises the score although their weight is
positive, or lowers it although their weight is negative ("wrong sign"); the rank correlation
(Spearman) between the weights of the listed paths and the falls of the score without their edges,
averaged over the triples; the share of first paths that change when the search starts with a beam
of four times the width; and the median time. The contributions by gradients alone are the baseline.

The test of rules takes a run on the bundled families, whose rules are known
(`scripts/make_families.py`). It counts the triples whose strongest path follows the generating
rule. For a run that reads walks, that is the most probable route among those that exist in train.

    python -m benchmarks.explanations runs/families
    python -m benchmarks.explanations runs/walks    # families-one-path with one_path.walk_ratio=0.5
    python -m benchmarks.explanations runs/umls --data umls.tar.gz --links 100
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import numpy as np
import torch
from scipy.stats import spearmanr

import kgtool
from kgtool.inference.explain import (
    BEAM,
    CANDIDATES,
    NamedPath,
    Path,
    explain_triple,
    pairs_of,
    score_without,
    without_triple,
)
from kgtool.inference.path_search import PathSearch
from kgtool.inference.predictor import Predictor
from kgtool.models.scorers import Passes, PassScorer
from scripts.make_families import RULES, Rule

SIBLINGS = {"brother_of", "sister_of", "^brother_of", "^sister_of"}
ROUTES = 20  # routes to search; the first one that exists in train counts


def takes(path: NamedPath, rule: Rule) -> bool:
    """Whether each step of the path has one of the rule's relations, and the lengths are equal.

    A step has all relations between its two people. It does not matter which of them the model
    reads, "his brother" or "whose brother he is".
    """
    return len(path.steps) == len(rule) and all(
        {relation for relation, _ in step} & set(alternatives)
        for step, alternatives in zip(path.steps, rule, strict=True)
    )


def walks(route: Sequence[str], rule: Rule) -> bool:
    """Whether each step of a route is one of the rule's relations; all sibling relations match."""
    return len(route) == len(rule) and all(
        step in alternatives or (step in SIBLINGS and SIBLINGS & set(alternatives))
        for step, alternatives in zip(route, rule, strict=True)
    )


def rule_on_top(predictor: Predictor, link: tuple[str, str, str]) -> bool:
    """Whether the strongest path of a test triple follows the rule that generated it."""
    head, relation, tail = link
    if predictor.passes is not None:
        paths = predictor.explain(head, relation, tail, top=1).paths
        return bool(paths) and takes(paths[0], RULES[relation])
    routes = kgtool.predict_routes(predictor.run, head, tail, top=ROUTES, data=predictor.dataset)
    existing = routes.loc[routes["arrives"], "path"]
    return len(existing) > 0 and walks(existing.iloc[0], RULES[relation])


Triple = tuple[int, int, int]
# The way to explain: by gradients alone, and as `kgtool explain` does.
GRADIENTS, REMOVAL = "gradients alone", "kgtool explain"
TRIES = 20  # draws of a random path that differs from the first one


@dataclass(frozen=True)
class Perturbed:
    """The perturbation test of one explanation.

    Attributes:
        first, listed, drawn: the changes of the score without the edges of the first path, of
            another listed path, and of a random path, as parts of the score's distance to that of
            an entity that no path reaches; NaN if there is none.
        wrong_sign: whether the first path's weight and fall have different signs.
        correlation: between the weights and the falls of the listed paths; NaN for fewer than
            three.
        moved: whether a beam of four times the width gives another first path.
        seconds: the time of the explanation.
    """

    first: float
    listed: float
    drawn: float
    wrong_sign: bool
    correlation: float
    moved: bool
    seconds: float


def by_gradients(passes: PassScorer, triple: Triple, top: int, beam: int = BEAM) -> list[Path]:
    """The paths with the largest contributions by gradients, either sign, in one search."""
    alone = replace(passes, graph=without_triple(passes.graph, triple))
    search = PathSearch.of(alone, triple)
    if search is None:
        return []
    paths, _ = search.paths(beam)
    best = sorted(paths.items(), key=lambda item: -abs(item[1]))[:top]
    return [
        Path(weight, 0.0, tuple(search.entities[slot] for slot in slots), ())
        for slots, weight in best
    ]


def by_removal(passes: PassScorer, triple: Triple, top: int, beam: int = BEAM) -> list[Path]:
    """The paths of `kgtool explain`."""
    return list(explain_triple(passes, triple, top, beam).paths)


WAYS = {GRADIENTS: by_gradients, REMOVAL: by_removal}


def random_path(passes: PassScorer, triple: Triple, length: int, draw: random.Random) -> list[int]:
    """The entities of a random walk of a given length from head to tail; empty if there is none."""
    head, _, tail = triple
    graph = without_triple(passes.graph, triple)
    offsets, source = graph.csc.offsets, graph.csc.source
    target = graph.csc.destinations()
    ways = [np.zeros(graph.num_entities)]  # of each length, the walks from the head to each entity
    ways[0][head] = 1
    for _ in range(length):
        ways.append(np.bincount(target, ways[-1][source], graph.num_entities).astype(np.float64))
    if not ways[length][tail]:
        return []
    path = [tail]
    for before in reversed(ways[:length]):
        into = source[offsets[path[0]] : offsets[path[0] + 1]]
        path.insert(0, int(draw.choices(into.tolist(), before[into].tolist())[0]))
    return path


@torch.no_grad()
def unreached(passes: PassScorer, relation: int) -> float:
    """The score of a query for every entity that no path reaches."""
    features = passes.decoder.features(torch.zeros(1, passes.decoder.dim))
    query = passes.decoder.queries(torch.tensor([relation]), passes.feed)
    return float((features * query).sum())


def perturb(
    passes: PassScorer, triple: Triple, way: str, top: int, draw: random.Random
) -> Perturbed | None:
    """Explain a triple and remove the edges of paths; None without a path."""
    start = time.perf_counter()
    paths = WAYS[way](passes, triple, top)
    seconds = time.perf_counter() - start
    if not paths:
        return None
    alone = replace(passes, graph=without_triple(passes.graph, triple))
    score = score_without(alone, triple, ())
    whole = abs(score - unreached(passes, triple[1]))

    def fall(entities: Sequence[int]) -> float:
        return score - score_without(alone, triple, pairs_of(entities))

    falls = [fall(path.entities) for path in paths]
    other = draw.choice(falls[1:]) if len(paths) > 1 else float("nan")
    first = pairs_of(paths[0].entities)
    walks = (random_path(passes, triple, len(paths[0].entities) - 1, draw) for _ in range(TRIES))
    drawn = next((walk for walk in walks if walk and pairs_of(walk) != first), [])
    wider = WAYS[way](passes, triple, 1, 4 * BEAM)
    sizes = [path.weight for path in paths]
    varied = len(paths) > 2 and len(set(falls)) > 1 and len(set(sizes)) > 1
    return Perturbed(
        abs(falls[0]) / whole,
        abs(other) / whole,
        abs(fall(drawn)) / whole if drawn else float("nan"),
        paths[0].weight * falls[0] < 0,
        float(spearmanr(sizes, falls).statistic) if varied else float("nan"),
        wider[0].entities != paths[0].entities,
        seconds,
    )


def perturbation_rows(
    passes: Passes, triples: Sequence[Triple], top: int, seed: int
) -> list[list[str]]:
    """A row for each way to explain."""
    rows = []
    for way in WAYS:
        draw = random.Random(seed)
        tried = (perturb(passes.of_relation(t[1]), t, way, top, draw) for t in triples)
        found = [one for one in tried if one is not None]
        if not found:
            common.fail("no path leads from head to tail of any of these test triples.")
        columns: dict[str, list[float]] = defaultdict(list)
        for one in found:
            for name, value in vars(one).items():
                if value == value:  # not NaN
                    columns[name].append(float(value))
        mean: dict[str, float] = defaultdict(lambda: float("nan"))
        mean |= {name: statistics.fmean(values) for name, values in columns.items()}
        rows.append(
            [
                way,
                *(f"{100 * mean[name]:.1f} %" for name in ("first", "listed", "drawn")),
                f"{100 * mean['wrong_sign']:.0f} %",
                f"{mean['correlation']:.2f}",
                f"{100 * mean['moved']:.0f} %",
                f"{statistics.median(columns['seconds']):.2f} s",
            ]
        )  # fmt: skip
    return rows


def main() -> int:
    """Parse the arguments, explain a sample of test triples, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--data", help="the data of the run (default: as in training)")
    parser.add_argument(
        "--links", type=common.positive, default=150, help="test triples (%(default)s)"
    )
    parser.add_argument(
        "--top", type=common.positive, default=CANDIDATES, help="paths (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args()
    run = kgtool.Run.open(args.run)
    predictor = kgtool.open_predictor(run, args.data)
    data, passes = predictor.dataset, predictor.passes
    common.describe(data)
    entities, relations = data.vocabulary.entities, data.vocabulary.relations
    triples = [(h, r, t) for h, r, t in data.test.tolist()]
    random.Random(args.seed).shuffle(triples)
    if passes is not None:
        rows = perturbation_rows(passes, triples[: args.links], args.top, args.seed)
        common.print_table(
            f"Change of the score of {min(args.links, len(triples))} test triples",
            ["explained by", "first path", "listed path", "random path", "wrong sign",
             "correlation", "moved", "time"],
            rows,
        )  # fmt: skip
    links = [(h, relations[r], t) for h, r, t in triples if relations[r] in RULES]
    count, hits = Counter[str](), Counter[str]()
    for h, relation, t in links[: args.links]:
        count[relation] += 1
        hits[relation] += rule_on_top(predictor, (entities[h], relation, entities[t]))
    rows = [[relation, str(count[relation]), str(hits[relation])] for relation in sorted(count)]
    rows.append(["all", str(count.total()), str(hits.total())])
    columns = ["relation", "test triples", "strongest path follows the rule"]
    if links:
        common.print_table("Explanations of test triples", columns, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
