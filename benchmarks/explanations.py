"""How often the strongest path of a hidden link is the one that its generating rule takes.

For runs on the bundled families, whose rules are known (`scripts/make_families.py`).

    python -m benchmarks.explanations runs/families
"""

from __future__ import annotations

import argparse
import random
from collections import Counter

# First: kgtool is to be imported before torch.
from benchmarks import common

# isort: split
import kgtool
from kgtool.explain import NamedPath
from scripts.make_families import RULES, Rule


def takes(path: NamedPath, rule: Rule) -> bool:
    """Whether there is one of the rule's relations at each of the path's steps, and no other step.

    The relations of a step lie between the same two people; which of them the model reads, "his
    brother" or "whose brother he is", is not asked.
    """
    return len(path.steps) == len(rule) and all(
        {relation for relation, _ in step} & set(alternatives)
        for step, alternatives in zip(path.steps, rule, strict=True)
    )


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
        paths = kgtool.explain(run, entities[h], relation, entities[t], top=1, data=data).paths
        asked[relation] += 1
        found[relation] += bool(paths) and takes(paths[0], RULES[relation])
    rows = [[relation, str(asked[relation]), str(found[relation])] for relation in sorted(asked)]
    rows.append(["all", str(asked.total()), str(found.total())])
    common.print_table("Hidden links", ["relation", "asked", "rule on top"], rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
