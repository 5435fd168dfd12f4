"""Split triples, of files or in memory, into train, valid and test."""

from __future__ import annotations

import os
import shlex
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import LOOK, Reading, Triples, read_triples
from kgtool.data.loaders.column_order import check_columns, refuse_doubtful
from kgtool.data.loaders.header import WEIGHT
from kgtool.data.loaders.memory import triples_of
from kgtool.data.loaders.near_equal import near_equal_of
from kgtool.data.loaders.weights import weight_hint
from kgtool.data.loaders.write import (
    BAD_LINES,
    LEFT_OUT,
    check_labels,
    is_of_dataset,
    weight_texts,
    write_bad_lines,
    write_triples,
)
from kgtool.data.splitting import (
    NEGATIVE,
    Division,
    distinct,
    reason_of,
    shortfalls,
    targets,
    unseen,
)
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import ConfigError, DataError, KGToolWarning
from kgtool.storage.files import atomic_folder

# The name of triples in memory, in data sets and in errors.
MEMORY = "memory"


@overload
def split(
    triples: Any, out: None = None, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: None = None, time: str | None = ..., remove_leaks: float | None = ...,
    keep_columns: Sequence[str] = ..., allow_unseen: bool = ..., reading: Reading = ...,
    overwrite: bool = ...,
) -> KGDataset: ...  # fmt: skip
@overload
def split(
    triples: Any, out: None = None, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: float, time: str | None = ..., remove_leaks: float | None = ...,
    keep_columns: Sequence[str] = ..., allow_unseen: bool = ..., reading: Reading = ...,
    overwrite: bool = ...,
) -> tuple[KGDataset, KGDataset]: ...  # fmt: skip
@overload
def split(
    triples: Any, out: str | Path, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: float | None = ..., time: str | None = ..., remove_leaks: float | None = ...,
    keep_columns: Sequence[str] = ..., allow_unseen: bool = ..., reading: Reading = ...,
    overwrite: bool = ...,
) -> Division: ...  # fmt: skip
def split(
    triples: Any,
    out: str | Path | None = None,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    inductive: float | None = None,
    time: str | None = None,
    remove_leaks: float | None = None,
    keep_columns: Sequence[str] = (),
    allow_unseen: bool = False,
    reading: Reading = LOOK,
    overwrite: bool = False,
) -> KGDataset | tuple[KGDataset, KGDataset] | Division:
    """Split triples into train, valid and test: a data set, or with `out` a folder of files.

    By default random triples are held out whose entities and relations all stay in train; triples
    between the same two entities, in either direction, stay together. See `kgtool.data.splitting`.

    Args:
        triples: one or more files of triples; or triples in memory as for `kgtool.dataset_of`, such
            as a data frame; or a data set, whose triples are split anew.
        out: the new folder, with `train.txt`, `valid.txt` and `test.txt`, and with `bad_lines.tsv`
            if `reading.skip_bad_lines` left some out; written whole or not at all.
        valid, test: shares of the distinct triples.
        seed: random seed.
        inductive: the share of the entities for a second graph: its `train` is the graph to reason
            over, `valid` and `test` are its queries. Its folder has a name that ends in `_ind`.
        time: another column, the time to split by: the earliest triples are train, the latest
            test. A repeated triple counts at its earliest time.
        remove_leaks: among relations whose pairs, or reversed pairs, overlap by at least this
            share of both, keep only the largest; 0.97 turned FB15k into FB15k-237.
        keep_columns: further columns that the new files get too, behind a header; of duplicates,
            the first row counts, or with `time` the earliest. For files with `out`. Weights are
            kept without it; of duplicates, the largest counts.
        allow_unseen: fill up valid and test by triples with an entity or relation that train lacks.
        reading: how to read the files; by default their format is inferred. Of triples in memory,
            `reading.columns` are the columns of head, relation and tail.
        overwrite: replace a data set at `out` that kgtool wrote; never a file that is read.

    Returns:
        Without `out`, the data set, or with `inductive` both; warnings count the triples that are
        in no split, and name the splits below their shares. With `out`, the report on the files.

    Raises:
        ConfigError: for shares out of range, a folder that exists and may not be replaced, or
            `keep_columns` without files.
        DataError: for triples that cannot be read, or that give no split; or if their columns may
            not be head, relation, tail.
        KGToolError: when the folder cannot be written.
    """
    _check_options(valid, test, inductive=inductive, time=time, remove_leaks=remove_leaks)
    files = files_of(triples)
    if keep_columns and (files is None or out is None):
        raise ConfigError(
            "keep_columns copies columns from files to files. Remedy: give the paths of the "
            "triples, and out."
        )
    place = MEMORY if files is None else ", ".join(map(str, files))
    name = MEMORY if files is None else Path(files[0]).name.split(".")[0]
    names = [name if out is None else Path(out).name]
    names += [] if inductive is None else [f"{names[0]}_ind"]
    folders = [] if out is None else [Path(out).parent / each for each in names]
    with ExitStack() as stack:
        # before the triples are read: a taken name is an error at once
        overwrites = is_of_dataset if overwrite else None
        new = [stack.enter_context(atomic_folder(f, overwrites, files or ())) for f in folders]
        further = tuple(dict.fromkeys((*([] if time is None else [time]), *keep_columns)))
        if files is None:
            if isinstance(triples, KGDataset):
                check_columns(triples)
            found = triples_of(triples, MEMORY, reading.columns, extra=time)
        else:
            found = read_triples(files, reading, further)
        if found.guessed:
            refuse_doubtful(place, found.triples.numpy(), memory=files is None)
        # columns may be given by number
        column = dict(zip(further, found.extra, strict=True))
        rows, timestamp = _distinct(found, place, None if time is None else column[time])
        if found.weights is not None:
            found = replace(found, weights=_largest(found))
        target = targets(
            found.triples[rows], len(found.vocabulary.entities), len(found.vocabulary.relations),
            valid=valid, test=test, seed=seed, inductive=inductive, timestamp=timestamp,
            remove_leaks=remove_leaks, allow_unseen=allow_unseen,
        )  # fmt: skip
        cut = _Cut(found, rows, target, names)
        cut.check(place, folders or names, allow_unseen)
        if out is not None:
            bad = write_bad_lines(new[0], found.bad_lines)
            weights = {} if found.weights is None else {WEIGHT: weight_texts(found.weights)}
            extra = {column[each]: found.extra[column[each]] for each in keep_columns}
            cut.write(new, {**weights, **extra})
    notes = list(found.notes)
    if out is not None and bad:
        notes.append(f"{folders[0] / BAD_LINES} lists all {len(found.bad_lines):,} bad lines")
    unread = [*found.left_out, *(column[each] for each in further if each not in keep_columns)]
    if unread and out is not None:
        options = ",".join(name.removeprefix("column ") for name in unread)
        notes.append(
            f"columns left out: {', '.join(unread)}; --keep-columns {shlex.quote(options)} keeps "
            "them"
        )
    notes += [hint for name in found.left_out if (hint := weight_hint(name))]
    notes += [one.warning for one in near_equal_of(found.triples[rows].numpy(), found.vocabulary)]
    if allow_unseen and (allowed := cut.num_unseen()):
        verb = "has" if allowed == 1 else "have"
        notes.append(
            f"{allowed:,} of the triples of valid and test {verb} an entity or relation that train "
            "lacks, as --allow-unseen allows."
        )
    table = cut.table()
    if time is None:
        notes += shortfalls(table, valid, test, allow_unseen=allow_unseen)
    lost = dict(Counter(cut.reasons()))
    if out is not None:
        read = len(found.triples) + len(found.negatives)
        duplicates = len(found.triples) - len(rows)
        return Division(tuple(folders), table, read, duplicates, lost, tuple(notes))
    notes += [f"triples in no split, {why}: {count:,}." for why, count in lost.items()]
    for note in notes:
        warnings.warn(
            KGToolWarning(note), stacklevel=3
        )  # the caller of what the package gives, `checked`
    made = cut.datasets()
    if isinstance(triples, KGDataset) and triples.features is not None:
        made = [replace(each, features=triples.features) for each in made]
    return made[0] if inductive is None else (made[0], made[1])


def files_of(triples: Any) -> list[str | Path] | None:
    """The files, if triples are given as one or more paths; None for triples in memory."""
    given = triples if isinstance(triples, (list, tuple)) else [triples]
    if not given or not all(isinstance(each, (str, os.PathLike)) for each in given):
        return None
    return [each if isinstance(each, str) else Path(each) for each in given]


def read_any(
    triples: Any, reading: Reading, relations: tuple[str, ...] | None
) -> tuple[Triples, list[str]]:
    """Triples of files or in memory, with duplicates, and the names of the files.

    Args:
        triples, reading: as for `split`.
        relations: the labels of relations by id; None for those of the triples.

    Raises:
        DataError: for triples that cannot be read, or a relation that is not among `relations`.
    """
    files = files_of(triples)
    if files is None:
        return triples_of(triples, MEMORY, reading.columns, relations=relations), [MEMORY]
    return read_triples(files, reading, relations=relations), [str(file) for file in files]


@dataclass(frozen=True, eq=False)
class _Cut:
    """Triples and the split of each.

    Attributes:
        found: the triples, with duplicates.
        rows: `(n,)` int64, the rows of the distinct triples.
        target: `(n,)` int64, see `kgtool.data.splitting`.
        names: the names of the graphs.
    """

    found: Triples
    rows: Tensor
    target: Tensor
    names: Sequence[str]

    def chosen(self, graph: int, split: str) -> Tensor:
        """`(m,)` int64, the rows of a split."""
        return self.rows[self.target == graph * len(SPLITS) + SPLITS.index(split)]

    @cached_property
    def graphs(self) -> dict[str, dict[str, Tensor]]:
        """The triples of each graph by split, `(m, 3)` int64."""
        return {
            name: {split: self.found.triples[self.chosen(graph, split)] for split in SPLITS}
            for graph, name in enumerate(self.names)
        }

    def reasons(self) -> list[str]:
        """The reason of each triple that is in no split; negatives last."""
        lost = self.target[self.target < 0].tolist()
        return [reason_of(code) for code in lost] + [NEGATIVE] * len(self.found.negatives)

    def num_unseen(self) -> int:
        """Number of triples of valid and test with an entity or relation that train lacks."""
        count = 0
        for parts in self.graphs.values():
            train = torch.arange(sum(map(len, parts.values()))) < len(parts["train"])
            count += int(unseen(torch.cat(list(parts.values())), train).sum())
        return count

    def table(self) -> pd.DataFrame:
        """The table of a `Division`."""
        counts = [
            (name, split, len(part), len(part[:, ::2].unique()), len(part[:, 1].unique()))
            for name, parts in self.graphs.items()
            for split, part in parts.items()
        ]
        columns = ["folder", "split", "triples", "entities", "relations"]
        return pd.DataFrame(counts, columns=columns)

    def check(self, place: str, graphs: Sequence[str | Path], allow_unseen: bool) -> None:
        """Raise a DataError that names an empty split, if there is one."""
        for graph, parts in zip(graphs, self.graphs.values(), strict=True):
            for split, part in parts.items():
                if not len(part):
                    raise _empty(place, graph, split, allow_unseen)

    def datasets(self) -> list[KGDataset]:
        """The graphs as data sets."""
        made = []
        for graph, (name, parts) in enumerate(self.graphs.items()):
            data = _dataset(name, self.found.vocabulary, parts)
            every = self.found.weights
            if every is not None:
                weights = {split: every[self.chosen(graph, split)] for split in SPLITS}
                data = replace(data, weights=weights)
            made.append(data)
        return made

    def write(self, folders: Sequence[Path], extra: Mapping[str, Sequence[str]]) -> None:
        """Write the splits of each graph to its folder, with further columns of all rows.

        The first folder gets the triples that are in no split, with the reason.
        """
        vocabulary, negatives = self.found.vocabulary, self.found.negatives
        check_labels(vocabulary)
        header = bool(extra)
        for graph, (folder, parts) in enumerate(zip(folders, self.graphs.values(), strict=True)):
            for split, part in parts.items():
                columns = _of_rows(extra, self.chosen(graph, split))
                write_triples(folder / f"{split}.txt", part, vocabulary, columns, header=header)
        why = self.reasons()
        if why:
            rows = self.rows[self.target < 0]
            columns = _of_rows(extra, rows)
            columns = {name: [*texts, *[""] * len(negatives)] for name, texts in columns.items()}
            write_triples(
                folders[0] / LEFT_OUT,
                torch.cat([self.found.triples[rows], negatives]),
                vocabulary,
                {**columns, "reason": why},
                header=header,
            )


def _check_options(
    valid: float,
    test: float,
    *,
    inductive: float | None,
    time: str | None,
    remove_leaks: float | None,
) -> None:
    for name, share in {"valid": valid, "test": test, "valid and test": valid + test}.items():
        _check_share(name, share)
    _check_share("inductive", inductive)
    if remove_leaks is not None and not 0 < remove_leaks <= 1:
        raise ConfigError(
            f"remove_leaks = {remove_leaks:g} is out of range. Remedy: choose a share such as 0.97."
        )
    if time is not None and inductive is not None:
        raise ConfigError("time and inductive exclude each other. Remedy: choose one of them.")


def _check_share(name: str, share: float | None) -> None:
    if share is not None and not 0 < share < 1:
        raise ConfigError(
            f"{name} = {share:g} is out of range. Remedy: choose a share above 0 and below 1."
        )


def _distinct(found: Triples, place: str, time: str | None) -> tuple[Tensor, Tensor | None]:
    """`(m,)` the rows of distinct triples in file order, and their earliest times, if known."""
    num_relations = len(found.vocabulary.relations)
    if time is None:
        return distinct(found.triples, num_relations), None
    timestamp = rank_timestamps(found.extra[time], place)
    earliest = torch.argsort(timestamp, stable=True)
    rows = earliest[distinct(found.triples[earliest], num_relations)].sort().values
    return rows, timestamp[rows]


def _largest(found: Triples) -> Tensor:
    """`(n,)` the weight of each triple: the largest among its duplicates."""
    assert found.weights is not None
    number = torch.unique(found.triples, dim=0, return_inverse=True)[1]
    most = torch.zeros(len(number)).scatter_reduce(0, number, found.weights, "amax")
    return most[number]


def _of_rows(extra: Mapping[str, Sequence[str]], rows: Tensor) -> dict[str, list[str]]:
    """The texts of some rows of each further column."""
    return {name: [texts[i] for i in rows.tolist()] for name, texts in extra.items()}


def _empty(place: str, graph: str | Path, split: str, allow_unseen: bool) -> DataError:
    lacks = "" if allow_unseen else " whose entities and relation train has too"
    more = "" if allow_unseen else " of the same entities and relations, or pass --allow-unseen"
    return DataError(
        f"{place}: no triple is left for {split} of {graph}{lacks}. Remedy: give more "
        f"triples{more}."
    )


def _dataset(name: str, vocabulary: Vocabulary, parts: Mapping[str, Tensor]) -> KGDataset:
    """A data set with the labels of its own triples, in the same order."""
    every = torch.cat(list(parts.values()))
    entity, relation = torch.unique(every[:, ::2]), torch.unique(every[:, 1])
    own = Vocabulary(
        tuple(vocabulary.entities[i] for i in entity.tolist()),
        tuple(vocabulary.relations[i] for i in relation.tolist()),
    )
    ids = []
    for split in SPLITS:
        columns = zip((entity, relation, entity), parts[split].unbind(1), strict=True)
        new = [torch.searchsorted(known, column.contiguous()) for known, column in columns]
        ids.append(torch.stack(new, dim=1))
    return KGDataset(name, None, own, *ids)
