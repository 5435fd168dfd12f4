"""Make a data set of loose triples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import Reading, Triples, read_triples
from kgtool.data.loaders.write import check_labels, write_triples
from kgtool.data.splitting import Division, distinct, reason_of, shortfalls, targets
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import ConfigError, DataError
from kgtool.storage.files import atomic_folder

LEFT_OUT = "left_out.txt"


def split(
    places: str | Path | Sequence[str | Path],
    out: str | Path,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    inductive: float | None = None,
    time: str | None = None,
    remove_leaks: float | None = None,
    reading: Reading | None = None,
) -> Division:
    """Make a data set folder of loose triples: `train.txt`, `valid.txt` and `test.txt`.

    By default random triples are held out whose entities and relations all stay in train; triples
    between the same two entities, in either direction, stay together. See `kgtool.data.splitting`.

    Args:
        places: one or more files of triples.
        out: the folder to make. It is whole, or not there.
        valid, test: shares of the distinct triples.
        seed: of what is drawn.
        inductive: this share of the entities is for a second graph, in a folder whose name ends in
            `_ind`: its `train` is the graph to reason over, `valid` and `test` are its questions.
        time: a further column of the files, by which to split: the earliest triples are train, then
            valid, then test. Of a triple that comes again the earliest time counts.
        remove_leaks: of relations whose pairs, or reversed pairs, overlap by at least this share of
            both, only the largest is kept; 0.97 is what made FB15k-237 of FB15k.
        reading: how to read the files; by default that is found out.

    Raises:
        ConfigError: for shares that are none, or a folder that is there already.
        DataError: for triples that cannot be read, or that no split can be made of.
        KGToolError: when the folder cannot be written.
    """
    for name, share in {"valid": valid, "test": test, "valid and test": valid + test}.items():
        _check_share(name, share)
    _check_share("inductive", inductive)
    if remove_leaks is not None and not 0 < remove_leaks <= 1:
        raise ConfigError(f"remove_leaks = {remove_leaks:g}: no share. Remedy: 0.97, or above.")
    if time is not None and inductive is not None:
        raise ConfigError("time and inductive exclude each other. Remedy: give one of them.")
    places = [places] if isinstance(places, (str, Path)) else list(places)
    place = ", ".join(map(str, places))
    out = Path(out)
    folders = [out] if inductive is None else [out, out.parent / f"{out.name}_ind"]
    with ExitStack() as stack:
        # before the files are read: a name that is taken is told at once
        temporary = [stack.enter_context(atomic_folder(folder)) for folder in folders]
        found = read_triples(places, reading or Reading(), extra=time)
        check_labels(found.vocabulary)
        rows, timestamp = _distinct(found, place)
        triples = found.triples[rows]
        sizes = len(found.vocabulary.entities), len(found.vocabulary.relations)
        target = targets(triples, *sizes, valid, test, seed, inductive, timestamp, remove_leaks)
        parts = []
        for number, folder in enumerate(temporary):
            for code, name in enumerate(SPLITS):
                part = triples[target == number * len(SPLITS) + code]
                if not len(part):
                    raise _empty(place, folders[number], name)
                write_triples(folder / f"{name}.txt", part, found.vocabulary)
                entities, relations = torch.unique(part[:, ::2]), torch.unique(part[:, 1])
                parts.append((folders[number].name, name, len(part), len(entities), len(relations)))
        lost = target < 0
        why = [reason_of(code) for code in target[lost].tolist()]
        if why:
            write_triples(temporary[0] / LEFT_OUT, triples[lost], found.vocabulary, why)
    table = pd.DataFrame(parts, columns=["folder", "split", "triples", "entities", "relations"])
    drawn = [] if time is not None else shortfalls(table, valid, test)
    return Division(
        folders=tuple(folders),
        table=table,
        read=len(found.triples),
        duplicates=len(found.triples) - len(triples),
        left_out=dict(Counter(why)),
        notes=(*found.notes, *drawn),
    )


def _check_share(name: str, share: float | None) -> None:
    if share is not None and not 0 < share < 1:
        raise ConfigError(f"{name} = {share:g}: no share. Remedy: above 0 and below 1, as 0.1.")


def _distinct(found: Triples, place: str) -> tuple[Tensor, Tensor | None]:
    """`(m,)` the rows of distinct triples in file order, and when each holds first, if told."""
    num_relations = len(found.vocabulary.relations)
    if found.extra is None:
        return distinct(found.triples, num_relations), None
    timestamp = rank_timestamps(found.extra, place)
    earliest = torch.argsort(timestamp, stable=True)
    rows = earliest[distinct(found.triples[earliest], num_relations)].sort().values
    return rows, timestamp[rows]


def _empty(place: str, folder: Path, name: str) -> DataError:
    return DataError(
        f"{place}: no triple is left for {name} of {folder} whose entities and relation train has "
        "too. Remedy: give more triples of the same entities and relations, or other shares."
    )
