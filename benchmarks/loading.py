"""Loading: `kgtool.load_dataset` compared with PyKEEN's `TriplesFactory.from_path`.

Each library loads the data in its own process. The peak of resident memory includes imports. PyKEEN
reads single files and does not read archives, so the splits are unpacked first, untimed.

    python -m benchmarks.loading --data FB15k-237.tar.gz
    python -m benchmarks.loading --synthetic --entities 1000000 --triples 5000000 --repeats 1
"""

from __future__ import annotations

import importlib
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Import first: kgtool must be imported before torch.
from benchmarks import common
from benchmarks.common import console

# isort: split
from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import load_with_report
from kgtool.data.loaders.write import write_dataset


def kgtool_counts(place: Path) -> tuple[int, ...]:
    """Load with kgtool, including its report; return the number of triples of each split."""
    return tuple(split.triples for split in load_with_report(place)[1].splits)


def pykeen_counts(folder: Path) -> tuple[int, ...]:
    """Load the three splits with PyKEEN; return the number of triples of each."""
    factory: Any = importlib.import_module("pykeen.triples").TriplesFactory
    train = factory.from_path(folder / "train.txt")
    ids = {"entity_to_id": train.entity_to_id, "relation_to_id": train.relation_to_id}
    others = [factory.from_path(folder / f"{split}.txt", **ids) for split in SPLITS[1:]]
    return tuple(part.num_triples for part in (train, *others))


LOADERS = {"kgtool": kgtool_counts, "pykeen": pykeen_counts}


def measured(loader: str, place: Path, repeats: int) -> tuple[float, int, tuple[int, ...]]:
    """The median seconds of a load, the peak memory in bytes, the triples of each split."""
    seconds, counts = common.median_seconds(lambda: LOADERS[loader](place), repeats, repeats > 1)
    return seconds, common.peak_bytes(), counts


def in_own_process(loader: str, place: Path, repeats: int) -> tuple[float, int, tuple[int, ...]]:
    """`measured` in a new process, in which nothing else is loaded."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, loader, place, repeats).result()


def main() -> int:
    """Parse the arguments, measure, and print the table."""
    args = common.parser(__doc__).parse_args()
    data = common.dataset(args)
    common.describe(data)
    counts = tuple(len(data.split(split)) for split in SPLITS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dataset(data, folder)
        del data
        loads = [("kgtool, a folder, with report", "kgtool", folder)]
        if args.data is not None:
            loads.insert(0, (f"kgtool, {args.data.name}, with report", "kgtool", args.data))
        if common.installed("pykeen"):
            loads.append(("PyKEEN, the three files", "pykeen", folder))
        rows, note, first = [], "", 0.0
        for name, loader, place in loads:
            seconds, peak, read = in_own_process(loader, place, args.repeats)
            first = first or seconds
            peak_text = common.megabytes(peak)
            rows.append([name, f"{seconds:.3f}", f"{seconds / first:.1f}", peak_text])
            if read != counts:
                note = (
                    f"triples read: kgtool {counts}, PyKEEN {read}. PyKEEN drops triples with "
                    "entities that are not in train."
                )
    title = f"loading, median of {args.repeats}"
    common.print_table(title, ["", "seconds", "times kgtool", "peak memory"], rows)
    if note:
        console.print(note)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
