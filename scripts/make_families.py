"""Make the bundled data set: a graph of families with known composition rules.

Four steps, in reading order: a village of people (`Village`), the facts of birth and marriage
(`base_facts`), the facts that follow by rules (`RULES`, `derived_facts`), and the split into train,
valid and test (`make_splits`). The same arguments give the same bytes.

    python scripts/make_families.py --out datasets/families --seed 1 --people 5000
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Fact = tuple[str, str, str]  # head, relation, tail: "x father_of y" says that x is y's father
Rule = tuple[tuple[str, ...], ...]  # the steps of a path; each step gives its alternatives

SPLITS = ("train", "valid", "test")

# The rules. The head relation holds from x to z if and only if a path from x to z takes one
# alternative at each step; `^r` walks r backwards. Sibling relations are base relations: with "a
# grandparent's son", an uncle could be the father. Relations that state a fact twice are omitted
# (son_of in addition to father_of, wife_of, nephew_of, the symmetric cousin_of). So are relations
# of two derived steps (great-grandparents). In train, such duplicates and detours would answer all
# queries. For held-out triples they are held out too, so a model that uses them would not learn the
# rules.
PARENT = ("father_of", "mother_of")
SPOUSE = ("husband_of", "^husband_of")
BASE = (*PARENT, "brother_of", "sister_of", "husband_of")
RULES: Mapping[str, Rule] = {
    "uncle_of": (("brother_of",), PARENT),
    "aunt_of": (("sister_of",), PARENT),
    "paternal_grandfather_of": (("father_of",), ("father_of",)),
    "maternal_grandfather_of": (("father_of",), ("mother_of",)),
    "paternal_grandmother_of": (("mother_of",), ("father_of",)),
    "maternal_grandmother_of": (("mother_of",), ("mother_of",)),
    "father_in_law_of": (("father_of",), SPOUSE),
    "mother_in_law_of": (("mother_of",), SPOUSE),
}

# The people. Many are only children or unmarried couples: without a sibling or a spouse there is no
# detour, so the training triples themselves need the rules.
GENERATIONS = (0.24, 0.22, 0.20, 0.18, 0.16)  # the share of each generation, oldest first
FOUNDED = range(1850, 1870)  # birth years of the first generation
PARENT_AGE = (20, 36)  # of both parents, at each birth
AGE_GAP = 8  # maximum years between the partners of a couple
CHILDREN = {1: 50, 2: 20, 3: 15, 4: 15}  # number of children of a couple: its weight
ALONE = 0.08  # share of men without a wife or children
UNMARRIED = 1 / 3  # share of couples that have children but do not marry
KINDRED = 3  # generations without a common ancestor of a couple: no second cousins or closer
HIDDEN = 0.06  # share of sibling groups whose derived facts are held out, for valid and test each

MALE = """
    Ahmed Akira Albert Anders Andrei Anton Arjun Arthur Bao Bela Bruno Carlos Casper Chen Daniel
    David Diego Dmitri Edgar Elias Emil Emre Enzo Erik Farid Felix Finn Franz Gabriel Georg Gustav
    Hamid Hans Hassan Henrik Hiro Hugo Ibrahim Igor Ivan Jamal Jan Javier Jonas Jorge Josef Juma
    Kenji Kofi Kwame Lars Leo Liam Luca Luis Marco Mateo Milan Nikola Noah Oskar Otto Pablo Pavel
    Pedro Pierre Rafael Rashid Ravi Sami Samuel Sanjay Simon Stefan Tariq Theo Tomas Viktor Wei
    Yusuf
"""
FEMALE = """
    Abena Ada Agnes Aiko Aisha Alice Alma Amara Amina Ana Anita Anna Astrid Beatriz Bianca Camila
    Carmen Chiara Clara Daria Diana Dora Edith Elena Elif Elsa Emma Esther Eva Fatima Flora Frida
    Gita Grace Hana Helena Hilda Ida Ines Ingrid Irina Isabel Jana Jasmin Johanna Julia Karin
    Katya Laila Leila Lena Lina Lucia Mabel Maja Maria Marta Mei Mina Mira Nadia Naomi Nina Noor
    Olga Paula Petra Priya Rosa Ruth Sara Selma Sofia Sonja Tamar Thea Uma Vera Yuki Zahra
"""
FAMILY = """
    Abe Achebe Adler Ahmadi Almeida Amadi Andersen Aoki Bakker Banerjee Barbosa Bauer Becker Bello
    Berg Bianchi Blanc Bogdan Borges Brandt Campos Castillo Cheng Cohen Conti Costa Cruz Dahl
    Danjuma Delgado Demir Desai Diallo Dietrich Dumont Duran Ebner Eklund Eriksen Esposito Farah
    Ferrari Fischer Fontaine Fujita Gallo Garcia Ghosh Girard Gomez Greco Gruber Gupta Haddad
    Hansen Hartmann Hassani Hayashi Herrera Hoffmann Holm Horvat Huang Ibarra Ishikawa Ivanov
    Jansen Jensen Joshi Kamau Kaplan Karimi Kato Kaya Keller Khan Kimura Kovacs Kowalski Kruger
    Kumar Larsen Leclerc Lehmann Leone Levi Lindqvist Lopez Lorenz Machado Malik Marchetti Mbeki
    Medina Mehta Mendes Meyer Mishra Mori Morozov Mueller Mutua Nakamura Navarro Ndiaye Nguyen
    Nielsen Novak Nowak Obi Okafor Olsen Orlov Ortiz Osei Ozturk Pappas Park Patel Pereira Petrov
    Pham Popescu Quintero Rahman Ramos Rao Ricci Rivera Romano Rossi Roux Sahin Saito Salazar
    Santos Sato Schmidt Sharma Silva Singh Sokolov Suzuki Takeda Tan Torres Tran Varga Vargas
    Vasquez Vogel Volkov Wagner Wang Weber Yamada Yilmaz Zhang Ziegler Zimmer
"""
FIRST_NAMES = {True: MALE.split(), False: FEMALE.split()}
FAMILY_NAMES = FAMILY.split()


@dataclass(eq=False)
class Person:
    """A person; `label` is unique, such as `Ada_Lindqvist_1874`."""

    label: str
    male: bool
    family: str
    birth: int
    parents: tuple[Person, ...] = ()  # father and mother; none for the first generation
    spouse: Person | None = None
    children: list[Person] = field(default_factory=list)

    @property
    def siblings(self) -> list[Person]:
        """The other children of the parents; there are no half-siblings."""
        return [p for p in self.parents[0].children if p is not self] if self.parents else []

    def ancestors(self, generations: int) -> set[Person]:
        """The person and its ancestors of the last `generations` generations."""
        people = {self}
        for parent in self.parents if generations else ():
            people |= parent.ancestors(generations - 1)
        return people


Couple = tuple[Person, Person]  # father, mother


class Village:
    """Five generations with a given total of people; `people` has the oldest generation first.

    Raises:
        ValueError: if the couples of a generation cannot have enough children for the next one.
    """

    def __init__(self, people: int, rng: random.Random) -> None:
        self.people: list[Person] = []
        self._rng = rng
        self._labels: set[str] = set()
        sizes = [round(people * share) for share in GENERATIONS]
        sizes[0] -= sizes[0] % 2
        sizes[-1] += people - sum(sizes)
        couples = [self._founders() for _ in range(sizes[0] // 2)]
        for size in sizes[1:]:
            born = self._children(couples, size)
            if len(self.people) < people:  # the youngest generation has no partners yet
                couples = self._match(born)

    def _person(self, male: bool, family: str, birth: int, parents: tuple[Person, ...]) -> Person:
        """A new person, with a first name that no sibling has."""
        used = {child.label.split("_")[0] for child in parents[0].children} if parents else set()
        free = [first for first in FIRST_NAMES[male] if first not in used]
        labels = [f"{first}_{family}_{birth}" for first in free]
        label = self._rng.choice([label for label in labels if label not in self._labels])
        person = Person(label, male, family, birth, parents)
        self._labels.add(label)
        self.people.append(person)
        return person

    def _founders(self) -> Couple:
        year = self._rng.choice(FOUNDED)
        near = [other for other in FOUNDED if abs(other - year) <= AGE_GAP]
        man = self._person(True, self._rng.choice(FAMILY_NAMES), year, ())
        woman = self._person(False, self._rng.choice(FAMILY_NAMES), self._rng.choice(near), ())
        return self._couple(man, woman)

    def _couple(self, man: Person, woman: Person) -> Couple:
        if self._rng.random() >= UNMARRIED:
            man.spouse, woman.spouse = woman, man
        return man, woman

    def _children(self, couples: Sequence[Couple], count: int) -> list[Person]:
        """`count` children, one to four per couple, with the father's family name."""
        least, most = min(CHILDREN), max(CHILDREN)
        if not least * len(couples) <= count <= most * len(couples):
            raise ValueError(f"{len(couples)} couples cannot have {count} children")
        sizes = self._rng.choices(list(CHILDREN), list(CHILDREN.values()), k=len(couples))
        while sum(sizes) != count:
            i = self._rng.randrange(len(couples))
            changed = sizes[i] + (1 if sum(sizes) < count else -1)
            sizes[i] = min(max(changed, least), most)
        born = []
        for i, (father, mother) in enumerate(couples):
            first = max(father.birth, mother.birth) + PARENT_AGE[0]
            last = min(father.birth, mother.birth) + PARENT_AGE[1]
            for year in sorted(self._rng.sample(range(first, last + 1), sizes[i])):
                male = self._rng.random() < 0.5
                child = self._person(male, father.family, year, (father, mother))
                father.children.append(child)
                mother.children.append(child)
                born.append(child)
        return born

    def _match(self, generation: Sequence[Person]) -> list[Couple]:
        """Couples inside a generation, close in age and not close in blood."""
        ancestors = {person: person.ancestors(KINDRED) for person in generation}
        men = [person for person in generation if person.male]
        women = [person for person in generation if not person.male]
        couples: list[Couple] = []
        for man in self._rng.sample(men, len(men)):
            brides = [
                woman
                for woman in women
                if abs(woman.birth - man.birth) <= AGE_GAP
                and ancestors[woman].isdisjoint(ancestors[man])
            ]
            if brides and self._rng.random() >= ALONE:
                woman = self._rng.choice(brides)
                women.remove(woman)
                couples.append(self._couple(man, woman))
        return couples


def base_facts(people: Iterable[Person]) -> list[Fact]:
    """The facts between parents and children, siblings, and husbands and wives."""
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
    """All facts that follow by the rules, sorted, without duplicates."""
    tails: dict[str, dict[str, list[str]]] = {}  # of a head, by relation
    for head, relation, tail in base:
        tails.setdefault(head, {}).setdefault(relation, []).append(tail)
        tails.setdefault(tail, {}).setdefault(f"^{relation}", []).append(head)
    facts: set[Fact] = set()
    for relation, steps in rules.items():
        for head in tails:
            ends = [head]
            for step in steps:
                ends = [tail for end in ends for r in step for tail in tails[end].get(r, ())]
            facts.update((head, relation, tail) for tail in ends)
    return sorted(facts)


def make_splits(
    people: Iterable[Person], base: Iterable[Fact], derived: Iterable[Fact], rng: random.Random
) -> dict[str, list[Fact]]:
    """Hold out the derived facts of some sibling groups; all other facts go to train.

    The two people of a derived fact decide its split. It is test if one of them is in a group held
    out for test, else valid if one of them is in a group held out for valid. So all derived facts
    of a pair are in the same split, and a person of a held-out group has only base facts in train.

    Returns:
        The sorted triples of each split.
    """
    groups = [person.children for person in people if person.male and person.children]
    rng.shuffle(groups)
    count = round(len(groups) * HIDDEN)
    rank = {child.label: 1 for group in groups[:count] for child in group}
    rank.update({child.label: 2 for group in groups[count : 2 * count] for child in group})
    splits: dict[str, list[Fact]] = {"train": list(base), "valid": [], "test": []}
    for head, relation, tail in derived:
        split = SPLITS[max(rank.get(head, 0), rank.get(tail, 0))]
        splits[split].append((head, relation, tail))
    return {split: sorted(facts) for split, facts in splits.items()}


def make(people: int, seed: int) -> dict[str, list[Fact]]:
    """Make the data set; returns the sorted triples of each split."""
    rng = random.Random(seed)
    village = Village(people, rng)
    base = base_facts(village.people)
    return make_splits(village.people, base, derived_facts(base, RULES), rng)


def write(splits: Mapping[str, Sequence[Fact]], out: Path) -> None:
    """Write `train.txt`, `valid.txt` and `test.txt`."""
    texts = {
        f"{split}.txt": ("\t".join(fact).encode() + b"\n" for fact in facts)
        for split, facts in splits.items()
    }
    write_files(out, texts)


def write_files(out: Path, texts: Mapping[str, Iterable[bytes | memoryview]]) -> None:
    """Write the files of a folder in pieces, under temporary names; rename them at the end."""
    out.mkdir(parents=True, exist_ok=True)
    parts = {out / f"{name}.{os.getpid()}.tmp": out / name for name in texts}
    try:
        for part, text in zip(parts, texts.values(), strict=True):
            with part.open("wb") as file:
                file.writelines(text)
        for part, path in parts.items():
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def between(least: int, most: int) -> Callable[[str], int]:
    """A parser of integers from `least` to `most`, for command-line arguments."""

    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not from {least} to {most}")
        return value

    return integer


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with code 2 if an argument cannot be used."""
    parser = argparse.ArgumentParser(description="Make the families data set.")
    parser.add_argument(
        "--out", type=Path, default=Path("datasets/families"), help="output folder (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=between(0, 2**32 - 1), default=1, help="0 to 2^32 - 1 (%(default)s)"
    )
    parser.add_argument(
        "--people", type=between(500, 20_000), default=5000, help="500 to 20000 (%(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        splits = make(args.people, args.seed)
        write(splits, args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for split, facts in splits.items():
        print(f"{split}\t{len(facts)} triples")


if __name__ == "__main__":
    main()
