"""Loading: `kgtool.load_dataset` beside PyKEEN's `TriplesFactory.from_path`.

PyKEEN reads a file at a time and no archive: the splits are unpacked for it, untimed.

    python -m benchmarks.loading --data FB15k-237.tar.gz
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

# First: kgtool is to be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
from kgtool import KGDataset, load_dataset
from kgtool.loaders.sources import read_splits
from kgtool.triples import SPLITS


def write_folder(data: KGDataset, path: Path | None, folder: Path) -> None:
    """Write the splits as files: those of `path`, byte for byte, or those of `data`."""
    if path is not None:
        for split, file in read_splits(path).items():
            (folder / f"{split}.txt").write_bytes(file.data)
        return
    entities, relations = data.vocabulary.entities, data.vocabulary.relations
    for split in SPLITS:
        lines = (
            f"{entities[head]}\t{relations[relation]}\t{entities[tail]}\n"
            for head, relation, tail in data.split(split).tolist()
        )
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")


def pykeen_counts(folder: Path) -> tuple[int, ...]:
    """Load the three splits with PyKEEN: the triples of each."""
    factory: Any = importlib.import_module("pykeen.triples").TriplesFactory
    train = factory.from_path(folder / "train.txt")
    ids = {"entity_to_id": train.entity_to_id, "relation_to_id": train.relation_to_id}
    others = [factory.from_path(folder / f"{split}.txt", **ids) for split in SPLITS[1:]]
    return tuple(part.num_triples for part in (train, *others))


def main() -> int:
    """Parse the arguments, time, print."""
    args = common.parser(__doc__).parse_args()
    data = common.dataset(args)
    common.describe(data)
    counts = tuple(len(data.split(split)) for split in SPLITS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_folder(data, args.data, folder)
        timed = []
        if args.data is not None:
            timed.append((f"load_dataset, {args.data.name}", lambda: load_dataset(args.data)))
        timed.append(("load_dataset, its files in a folder", lambda: load_dataset(folder)))
        seconds = [common.median_seconds(call, args.repeats)[0] for _, call in timed]
        rows = [
            [name, f"{taken:.3f}", f"{taken / seconds[0]:.1f}"]
            for (name, _), taken in zip(timed, seconds, strict=True)
        ]
        note = ""
        if common.installed("pykeen"):
            taken, found = common.median_seconds(lambda: pykeen_counts(folder), args.repeats)
            rows.append(["PyKEEN, the three files", f"{taken:.3f}", f"{taken / seconds[0]:.1f}"])
            if found != counts:
                note = (
                    f"triples read: kgtool {counts}, PyKEEN {found}; it leaves out those with "
                    "entities that train lacks"
                )
    common.print_table(f"loading, median of {args.repeats}", ["", "seconds", "times kgtool"], rows)
    if note:
        console.print(note)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
