"""Make the bundled data set: a graph of families whose true composition rules are known.

Four steps, in reading order: a simulation of people (`simulate`), what holds between them by birth
and marriage (`base_facts`), what follows from that by rule (`RULES`, `derived_facts`), and what is
hidden for validation and test (`make_splits`). The same arguments give the same bytes.

    python scripts/make_families.py --out datasets/families --seed 1 --people 3000
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Fact = tuple[str, str, str]  # head, relation, tail: "x father_of y" says that x is y's father
Rule = tuple[tuple[str, ...], ...]  # the steps of a path; each step gives its alternatives

SPLITS = ("train", "valid", "test")

# The rules. The head relation holds from x to z exactly where a path from x to z takes one
# alternative at each step; `^r` walks r backwards. No path of a rule reaches anyone else: siblings
# are a relation of their own, so that an uncle is a parent's brother and never the father, as
# "a grandparent's son" could be.
PARENT = ("father_of", "mother_of")
SPOUSE = ("husband_of", "^husband_of")
BASE = (*PARENT, "brother_of", "sister_of", "husband_of")
RULES: Mapping[str, Rule] = {
    "grandfather_of": (("father_of",), PARENT),
    "grandmother_of": (("mother_of",), PARENT),
    "great_grandfather_of": (("father_of",), PARENT, PARENT),
    "great_grandmother_of": (("mother_of",), PARENT, PARENT),
    "uncle_of": (("brother_of",), PARENT),
    "aunt_of": (("sister_of",), PARENT),
    "great_uncle_of": (("brother_of",), PARENT, PARENT),
    "great_aunt_of": (("sister_of",), PARENT, PARENT),
    "cross_cousin_of": (("^father_of", "^mother_of"), ("brother_of",), ("mother_of",)),
    "father_in_law_of": (("father_of",), SPOUSE),
    "mother_in_law_of": (("mother_of",), SPOUSE),
}

# The people: the share of each generation, oldest first, and what makes a couple and its children.
# With 1 - SINGLE of a generation married, the shares come to about 2.5 children a couple.
GENERATIONS = (0.2, 0.2, 0.2, 0.2, 0.2)
UNMARRIED = 0.0
FOUNDED = range(1850, 1870)  # birth years of the first generation
PARENT_AGE = (20, 36)  # of both parents, at each birth
AGE_GAP = 8  # years between spouses at most
MOST_CHILDREN = 4
SINGLE = 0.08  # share of men who do not marry
KINDRED = 3  # spouses share no ancestor of so many generations: no siblings, first, second cousins
HIDDEN = 0.05  # share of the sibling groups whose links are hidden, in valid and in test each

MALE = """
    Ahmed Akira Albert Anders Andrei Anton Arjun Arthur Bao Bela Bruno Carlos Casper Chen Daniel
    David Diego Dmitri Edgar Elias Emil Emre Enzo Erik Farid Felix Finn Franz Gabriel Georg Gustav
    Hamid Hans Hassan Henrik Hiro Hugo Ibrahim Igor Ivan Jamal Jan Javier Jonas Jorge Josef Juma
    Kenji Kofi Kwame Lars Leo Liam Luca Luis Marco Mateo Milan Nikola Noah Oskar Otto Pablo Pavel
    Pedro Pierre Rafael Rashid Ravi Sami Samuel Sanjay Simon Stefan Tariq Theo Tomas Viktor Wei Yusuf
""".split()
FEMALE = """
    Abena Ada Agnes Aiko Aisha Alice Alma Amara Amina Ana Anita Anna Astrid Beatriz Bianca Camila
    Carmen Chiara Clara Daria Diana Dora Edith Elena Elif Elsa Emma Esther Eva Fatima Flora Frida
    Gita Grace Hana Helena Hilda Ida Ines Ingrid Irina Isabel Jana Jasmin Johanna Julia Karin Katya
    Laila Leila Lena Lina Lucia Mabel Maja Maria Marta Mei Mina Mira Nadia Naomi Nina Noor Olga Paula
    Petra Priya Rosa Ruth Sara Selma Sofia Sonja Tamar Thea Uma Vera Yuki Zahra
""".split()
FAMILY = """
    Abe Achebe Adler Ahmadi Almeida Amadi Andersen Aoki Bakker Banerjee Barbosa Bauer Becker Bello
    Berg Bianchi Blanc Bogdan Borges Brandt Campos Castillo Cheng Cohen Conti Costa Cruz Dahl Danjuma
    Delgado Demir Desai Diallo Dietrich Dumont Duran Ebner Eklund Eriksen Esposito Farah Ferrari
    Fischer Fontaine Fujita Gallo Garcia Ghosh Girard Gomez Greco Gruber Gupta Haddad Hansen Hartmann
    Hassani Hayashi Herrera Hoffmann Holm Horvat Huang Ibarra Ishikawa Ivanov Jansen Jensen Joshi
    Kamau Kaplan Karimi Kato Kaya Keller Khan Kimura Kovacs Kowalski Kruger Kumar Larsen Leclerc Lehmann
    Leone Levi Lindqvist Lopez Lorenz Machado Malik Marchetti Mbeki Medina Mehta Mendes Meyer Mishra
    Mori Morozov Mueller Mutua Nakamura Navarro Ndiaye Nguyen Nielsen Novak Nowak Obi Okafor Olsen
    Orlov Ortiz Osei Ozturk Pappas Park Patel Pereira Petrov Pham Popescu Quintero Rahman Ramos Rao
    Ricci Rivera Romano Rossi Roux Sahin Saito Salazar Santos Sato Schmidt Sharma Silva Singh Sokolov
    Suzuki Takeda Tan Torres Tran Vargas Varga Vasquez Vogel Volkov Wagner Wang Weber Yamada Yilmaz
    Zhang Ziegler Zimmer
""".split()


@dataclass(eq=False)
class Person:
    """One person of the simulation; `label` is unique, such as `Ada_Lindqvist_1874`."""

    label: str
    male: bool
    family: str
    birth: int
    parents: tuple[Person, ...] = ()  # father and mother; none for the first generation
    spouse: Person | None = None
    children: list[Person] = field(default_factory=list)

    @property
    def first(self) -> str:
        """The first name."""
        return self.label.split("_")[0]

    @property
    def siblings(self) -> list[Person]:
        """The other children of the parents."""
        return [p for p in self.parents[0].children if p is not self] if self.parents else []

    def ancestors(self, generations: int) -> set[Person]:
        """The person and those that it descends from, so many generations back."""
        found = {self}
        for parent in self.parents if generations else ():
            found |= parent.ancestors(generations - 1)
        return found


def simulate(people: int, rng: random.Random) -> list[Person]:
    """So many people in five generations, oldest generation first.

    Raises:
        ValueError: the couples of a generation cannot have the children that the next one needs.
    """
    sizes = [round(people * share) for share in GENERATIONS]
    sizes[0] -= sizes[0] % 2
    sizes[-1] += people - sum(sizes)
    taken: set[str] = set()
    couples = [_founders(rng, taken) for _ in range(sizes[0] // 2)]
    everyone = [person for couple in couples for person in couple]
    for size in sizes[1:]:
        born = _children(couples, size, rng, taken)
        everyone += born
        if len(everyone) < people:  # the youngest generation is single
            couples = _marry(born, rng)
    return everyone


def _founders(rng: random.Random, taken: set[str]) -> tuple[Person, Person]:
    born = rng.choice(FOUNDED)
    husband = _person(True, rng.choice(FAMILY), born, (), rng, taken)
    born = rng.choice([year for year in FOUNDED if abs(year - born) <= AGE_GAP])
    wife = _person(False, rng.choice(FAMILY), born, (), rng, taken)
    husband.spouse, wife.spouse = wife, husband
    return husband, wife


def _children(
    couples: Sequence[tuple[Person, Person]], count: int, rng: random.Random, taken: set[str]
) -> list[Person]:
    """One child for each couple, the others spread at random; each carries the father's name."""
    most = len(couples) * MOST_CHILDREN
    if not len(couples) <= count <= most:
        raise ValueError(f"{len(couples)} couples cannot have {count} children")
    more = rng.sample(
        [i for i in range(len(couples)) for _ in range(MOST_CHILDREN - 1)], count - len(couples)
    )
    for i, (father, mother) in enumerate(couples):
        first = max(father.birth, mother.birth) + PARENT_AGE[0]
        last = min(father.birth, mother.birth) + PARENT_AGE[1]
        for year in sorted(rng.sample(range(first, last + 1), 1 + more.count(i))):
            male = rng.random() < 0.5
            child = _person(male, father.family, year, (father, mother), rng, taken)
            father.children.append(child)
            mother.children.append(child)
    return [child for father, _ in couples for child in father.children]


def _person(
    male: bool,
    family: str,
    birth: int,
    parents: tuple[Person, ...],
    rng: random.Random,
    taken: set[str],
) -> Person:
    """A person under a label that is not taken, with a first name unlike those of siblings."""
    used = [child.first for child in parents[0].children] if parents else []
    labels = [
        f"{first}_{family}_{birth}" for first in (MALE if male else FEMALE) if first not in used
    ]
    label = rng.choice([label for label in labels if label not in taken])
    taken.add(label)
    return Person(label, male, family, birth, parents)


def _marry(generation: Sequence[Person], rng: random.Random) -> list[tuple[Person, Person]]:
    """Couples (husband, wife) inside a generation, close in age and not close in blood."""
    ancestors = {person: person.ancestors(KINDRED) for person in generation}
    men = [person for person in generation if person.male]
    women = [person for person in generation if not person.male]
    couples: list[tuple[Person, Person]] = []
    for man in rng.sample(men, len(men)):
        brides = [
            woman
            for woman in women
            if abs(woman.birth - man.birth) <= AGE_GAP
            and ancestors[woman].isdisjoint(ancestors[man])
        ]
        if brides and rng.random() >= SINGLE:
            wife = rng.choice(brides)
            women.remove(wife)
            man.spouse, wife.spouse = wife, man
            couples.append((man, wife))
    return couples


def base_facts(people: Iterable[Person]) -> list[Fact]:
    """What holds between parents, children, siblings and spouses, in both directions."""
    facts: list[Fact] = []
    for person in people:
        for parent in person.parents:
            facts.append((parent.label, "father_of" if parent.male else "mother_of", person.label))
        for sibling in person.siblings:
            relation = "brother_of" if person.male else "sister_of"
            facts.append((person.label, relation, sibling.label))
        if person.male and person.spouse:
            facts.append((person.label, "husband_of", person.spouse.label))
    return facts


def derived_facts(base: Iterable[Fact], rules: Mapping[str, Rule]) -> list[Fact]:
    """Everything that the rules give, sorted; two paths to the same fact give it once."""
    tails: dict[tuple[str, str], list[str]] = {}
    heads: dict[str, None] = {}
    for head, relation, tail in base:
        tails.setdefault((head, relation), []).append(tail)
        tails.setdefault((tail, "^" + relation), []).append(head)
        heads[head] = heads[tail] = None
    facts: set[Fact] = set()
    for relation, steps in rules.items():
        for head in heads:
            ends = [head]
            for step in steps:
                ends = [tail for end in ends for r in step for tail in tails.get((end, r), ())]
            facts.update((head, relation, tail) for tail in ends)
    return sorted(facts)


def make_splits(
    people: Iterable[Person], base: Iterable[Fact], derived: Iterable[Fact], rng: random.Random
) -> dict[str, list[Fact]]:
    """Hide the derived facts of some sibling groups; the rest, and all base facts, are train.

    A fact goes by its two people: to test if either belongs to a group hidden for test, else to
    valid if either belongs to one hidden for valid. So all facts of a pair fall together, and a
    model meets a hidden person, and its siblings, in base facts only.
    """
    groups = [person.children for person in people if person.male and person.children]
    rng.shuffle(groups)
    count = round(len(groups) * HIDDEN)
    rank = {child.label: 1 for group in groups[:count] for child in group}
    rank.update({child.label: 2 for group in groups[count : 2 * count] for child in group})
    splits: dict[str, list[Fact]] = {"train": list(base), "valid": [], "test": []}
    for fact in derived:
        head, _, tail = fact
        splits[SPLITS[max(rank.get(head, 0), rank.get(tail, 0))]].append(fact)
    return {split: sorted(facts) for split, facts in splits.items()}


def make(people: int, seed: int) -> dict[str, list[Fact]]:
    """The sorted triples of each split."""
    rng = random.Random(seed)
    everyone = simulate(people, rng)
    base = base_facts(everyone)
    return make_splits(everyone, base, derived_facts(base, RULES), rng)


def write(splits: Mapping[str, Collection[Fact]], out: Path) -> None:
    """Write `train.txt`, `valid.txt` and `test.txt`: all under temporary names, then renamed."""
    out.mkdir(parents=True, exist_ok=True)
    for split, facts in splits.items():
        lines = "".join("\t".join(fact) + "\n" for fact in facts)
        (out / f".{split}.txt.tmp").write_bytes(lines.encode())
    for split in splits:
        os.replace(out / f".{split}.txt.tmp", out / f"{split}.txt")


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not from {least} to {most}")
        return value

    return parse


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the families data set.")
    parser.add_argument("--out", type=Path, default=Path("datasets/families"), help="folder")
    parser.add_argument("--seed", type=_number(0, 2**32 - 1), default=1)
    parser.add_argument("--people", type=_number(300, 20_000), default=3000)
    args = parser.parse_args()
    try:
        splits = make(args.people, args.seed)
        write(splits, args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for split, facts in splits.items():
        print(f"{split}\t{len(facts)} triples")


if __name__ == "__main__":
    main()
