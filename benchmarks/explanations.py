"""How often the strongest explaining path of a test triple follows the rule that generated it.

The runs must be on the bundled families data set, whose rules are known
(`scripts/make_families.py`). For an all-paths run, the strongest path is the one with the largest
part of the triple's score. For a run that reads walks, it is the most probable route, among those
that exist in train.

    python -m benchmarks.explanations runs/families
    python -m benchmarks.explanations runs/walks    # families-one-path with one_path.walk_ratio=0.5
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import kgtool
from kgtool.inference.explain import NamedPath
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


def rule_on_top(run: kgtool.Run, data: kgtool.KGDataset, link: tuple[str, str, str]) -> bool:
    """Whether the strongest path of a test triple follows the rule that generated it."""
    head, relation, tail = link
    if run.config.all_paths:
        paths = kgtool.explain(run, head, relation, tail, top=1, data=data).paths
        return bool(paths) and takes(paths[0], RULES[relation])
    routes = kgtool.predict_routes(run, head, tail, top=ROUTES, data=data)
    existing = routes.loc[routes["arrives"], "path"]
    return len(existing) > 0 and walks(existing.iloc[0], RULES[relation])


def main() -> int:
    """Parse the arguments, explain a sample of test triples, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run on datasets/families")
    parser.add_argument(
        "--links", type=common.positive, default=150, help="test triples (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args()
    run = kgtool.Run.open(args.run)
    data = run.dataset()
    entities, relations = data.vocabulary.entities, data.vocabulary.relations
    links = [(h, relations[r], t) for h, r, t in data.test.tolist() if relations[r] in RULES]
    random.Random(args.seed).shuffle(links)
    count, hits = Counter[str](), Counter[str]()
    for h, relation, t in links[: args.links]:
        count[relation] += 1
        hits[relation] += rule_on_top(run, data, (entities[h], relation, entities[t]))
    rows = [[relation, str(count[relation]), str(hits[relation])] for relation in sorted(count)]
    rows.append(["all", str(count.total()), str(hits.total())])
    columns = ["relation", "test triples", "strongest path follows the rule"]
    common.print_table("Explanations of test triples", columns, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
