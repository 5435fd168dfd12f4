"""How often the strongest path of a hidden link is the one that its generating rule takes.

For runs on the bundled families, whose rules are known (`scripts/make_families.py`): of an
all-paths run the path that carried most of the link's score, of a run that reads walks the
likeliest route between the two that train has.

    python -m benchmarks.explanations runs/families
    python -m benchmarks.explanations runs/walks    # families-one-path with one_path.walks=0.5
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence

# First: kgtool is to be imported before torch.
from benchmarks import common

# isort: split
import kgtool
from kgtool.inference.explain import NamedPath
from scripts.make_families import RULES, Rule

SIBLINGS = {"brother_of", "sister_of", "^brother_of", "^sister_of"}
ROUTES = 20  # asked for, the first of which that train has counts


def takes(path: NamedPath, rule: Rule) -> bool:
    """Whether there is one of the rule's relations at each of the path's steps, and no other step.

    The relations of a step lie between the same two people; which of them the model reads, "his
    brother" or "whose brother he is", is not asked.
    """
    return len(path.steps) == len(rule) and all(
        {relation for relation, _ in step} & set(alternatives)
        for step, alternatives in zip(path.steps, rule, strict=True)
    )


def walks(route: Sequence[str], rule: Rule) -> bool:
    """Whether a route takes one of the rule's relations at each step; siblings' are one."""
    return len(route) == len(rule) and all(
        step in alternatives or (step in SIBLINGS and SIBLINGS & set(alternatives))
        for step, alternatives in zip(route, rule, strict=True)
    )


def rule_on_top(run: kgtool.Run, data: kgtool.KGDataset, link: tuple[str, str, str]) -> bool:
    """Whether the strongest path of a hidden link is the one of the rule that made it."""
    head, relation, tail = link
    if run.config.all_paths:
        paths = kgtool.explain(run, head, relation, tail, top=1, data=data).paths
        return bool(paths) and takes(paths[0], RULES[relation])
    routes = kgtool.routes(run, head, tail, top=ROUTES, data=data)
    there = routes.loc[routes["arrives"], "path"]
    return len(there) > 0 and walks(there.iloc[0], RULES[relation])


def main() -> int:
    """Parse the arguments, explain a sample, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run on datasets/families")
    parser.add_argument("--links", type=common.positive, default=150, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args()
    run = kgtool.Run.open(args.run)
    data = run.dataset()
    entities, relations = data.vocabulary.entities, data.vocabulary.relations
    links = [(h, relations[r], t) for h, r, t in data.test.tolist() if relations[r] in RULES]
    random.Random(args.seed).shuffle(links)
    asked, found = Counter[str](), Counter[str]()
    for h, relation, t in links[: args.links]:
        asked[relation] += 1
        found[relation] += rule_on_top(run, data, (entities[h], relation, entities[t]))
    rows = [[relation, str(asked[relation]), str(found[relation])] for relation in sorted(asked)]
    rows.append(["all", str(asked.total()), str(found.total())])
    common.print_table("Hidden links", ["relation", "asked", "rule on top"], rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
