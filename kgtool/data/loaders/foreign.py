"""Reads the data sets of OpenKE, LibKGE, PyKEEN and DGL-KE: triples of ids, and their labels.

- OpenKE (Han et al. 2018): `entity2id.txt`, `relation2id.txt` (`label⇥id`), `train2id.txt`, ...;
  the first line of each is a count, and a triple is head, **tail**, relation.
- LibKGE (Broscheit et al. 2020): `entity_ids.del`, `relation_ids.del` (`id⇥label`), `train.del`
- PyKEEN (Ali et al. 2021), `Dataset.to_directory_binary`: folders `training`, `validation` and
  `testing`, each with `numeric_triples.tsv.gz`, `entity_to_id.tsv.gz` and `relation_to_id.tsv.gz`
- DGL-KE (Zheng et al. 2020), `udd`: `entities.dict`, `relations.dict` (`label⇥id`, or `id⇥label`)
  next to `train.tsv`, ... of ids. DGL-KE's command line gives the order of the columns; here it is
  inferred from the ids, or `--columns` gives it. Mappings of all tools are read next to triples of
  ids, whatever their names: `entities.tsv`, `entity2id.txt`, `entity_to_id.tsv.gz`, ... Such
  mappings may also lie next to triples of labels; they are then ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgtool.data.dataset import SPLITS
from kgtool.data.loaders.delimited import read_delimited
from kgtool.data.loaders.header import COLUMNS_OPTION
from kgtool.data.loaders.id_labels import IdLabels, count_of, read_id_labels
from kgtool.data.loaders.reading import COMPRESSIONS, LOOK, Reading, file_name
from kgtool.data.loaders.rows import Rows, suspects, used
from kgtool.data.loaders.sources import PYKEEN, Store, split_of
from kgtool.errors import DataError, fault, quoted
from kgtool.storage.archives import archive_suffix
from kgtool.storage.compression import File

_HTR = (0, 2, 1)


@dataclass(frozen=True)
class Layout:
    """The files of a tool's data sets.

    Args:
        tool: the tool.
        entities, relations: names of the mapping files.
        split: name of the file of a split, with `{}` for the split.
        counted: whether the first line of each file is a count.
        columns: the columns of head, relation and tail, counted from 1.
    """

    tool: str
    entities: str
    relations: str
    split: str
    counted: bool
    columns: tuple[str, str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, the mappings first."""
        return (self.entities, self.relations, *(self.split.format(split) for split in SPLITS))


_LAYOUTS = (
    Layout("LibKGE", "entity_ids.del", "relation_ids.del", "{}.del", False, ("1", "2", "3")),
    Layout("OpenKE", "entity2id.txt", "relation2id.txt", "{}2id.txt", True, ("1", "3", "2")),
)
# The names of mappings next to triples of ids, without endings.
_MAPPINGS = {
    "entity": ("entities", "entity", "entity2id", "entity_to_id", "entity_ids", "ent2id"),
    "relation": (
        "relations",
        "relation",
        "relation2id",
        "relation_to_id",
        "relation_ids",
        "rel2id",
    ),
}
_ENDINGS = (".dict", ".txt", ".tsv", ".csv", ".del")
_TRIPLES = "numeric_triples"  # PyKEEN's file of triples
_NAMES = {name for layout in _LAYOUTS for name in layout.names}


def is_of_tool(member: str) -> bool:
    """Whether a file of an archive may belong to a data set of another tool."""
    path = PurePosixPath(member)
    return path.name in _NAMES or _mapped(path.name) is not None or path.name.startswith(_TRIPLES)


def _mapped(name: str) -> str | None:
    """`"entity"` or `"relation"` for the name of a mapping file, else None."""
    inner = PurePosixPath(name)
    if inner.suffix in COMPRESSIONS:
        inner = inner.with_suffix("")
    if inner.suffix not in _ENDINGS:
        return None
    return next((kind for kind, stems in _MAPPINGS.items() if inner.stem in stems), None)


def find_pykeen(store: Store) -> str | None:
    """The folder of a PyKEEN data set in a folder or archive, or None."""
    for member in store.members:
        path = PurePosixPath(member)
        if path.name.startswith(_TRIPLES) and path.parent.name == PYKEEN["train"]:
            return str(path.parent.parent)
    return None


def read_pykeen(store: Store, folder: str, reading: Reading) -> dict[str, tuple[str, Rows]]:
    """Each split's file and its triples, with labels for ids.

    Raises:
        DataError: for a split or mapping that is missing, or a file that cannot be read.
    """
    splits = {}
    for split, name in PYKEEN.items():
        part = PurePosixPath(folder) / name
        inside = [member for member in store.members if PurePosixPath(member).parent == part]
        member = next((m for m in inside if PurePosixPath(m).name.startswith(_TRIPLES)), None)
        mappings = _mappings(store, part)
        if member is None or mappings is None:
            missing = f"{_TRIPLES}.tsv.gz" if member is None else "a file of labels by id"
            raise fault(
                store.path,
                f"this looks like a data set of PyKEEN, but {part} lacks {missing}",
                "write it again by Dataset.to_directory_binary",
            )
        file = store.file(member, "tsv", file_name(member, reading).compression)
        rows = _with_labels(read_delimited(file, reading), file.place, *mappings)
        splits[split] = (member, rows)
    member, rows = splits["train"]
    note = f"{store.path}: read as a data set of PyKEEN"
    return splits | {"train": (member, replace(rows, notes=(note,)))}


def find_layout(store: Store) -> tuple[Layout, str] | None:
    """The layout of OpenKE or LibKGE that a folder or archive has, and the folder in it.

    Raises:
        DataError: where one of its files is missing.
    """
    members = set(store.members)
    for layout in _LAYOUTS:
        for member in store.members:
            folder = PurePosixPath(member).parent
            if member != str(folder / layout.split.format("train")):
                continue
            missing = [name for name in layout.names if str(folder / name) not in members]
            if missing and any(split_of(name, LOOK) for name in store.members):
                continue  # the folder also has files of the usual names
            if missing:
                raise fault(
                    store.path,
                    f"this looks like a data set of {layout.tool}, but {missing[0]} is missing",
                    f"add {missing[0]}, or remove {layout.split.format('train')}",
                )
            return layout, str(folder)
    return None


def read_layout(store: Store, layout: Layout, folder: str) -> dict[str, tuple[str, Rows]]:
    """Each split's file and its triples, with labels for ids.

    Raises:
        DataError: for a file that cannot be read, a count that does not fit, or an id that the
            mapping lacks; it names the line.
    """

    def within(name: str) -> str:
        return str(PurePosixPath(folder) / name)

    id_first = layout.tool == "LibKGE"
    entities, relations = (
        read_id_labels(store.file(within(name), "tsv"), id_first, layout.counted)
        for name in (layout.entities, layout.relations)
    )
    splits = {}
    for split in SPLITS:
        file = store.file(within(layout.split.format(split)), "tsv")
        count = count_of(file) if layout.counted else None
        _, _, inner = file.data.partition(b"\n") if layout.counted else (b"", b"", file.data)
        delimiter = "\t" if b"\t" in inner.partition(b"\n")[0] else " "
        reading = Reading(columns=layout.columns, delimiter=delimiter, header=False)
        rows = read_delimited(file, reading, skip=int(layout.counted))
        if count is not None and count != len(rows.codes):
            problem = f"the count is {count}, but {len(rows.codes)} triples follow"
            raise fault(file.place, problem, "restore the file, or correct the count", 1)
        splits[split] = (file.member, _with_labels(rows, file.place, entities, relations))
    notes = (
        f"{store.path}: read as a data set of {layout.tool}",
        *_left_out(entities, [rows for _, rows in splits.values()]),
    )
    member, rows = splits["train"]
    return splits | {"train": (member, replace(rows, notes=rows.notes + notes))}


def with_names(
    store: Store, splits: Mapping[str, list[tuple[str, Rows]]], reading: Reading
) -> dict[str, list[tuple[str, Rows]]]:
    """Replaces ids by labels if DGL-KE's mappings lie next to the split files.

    Args:
        store: the folder or archive.
        splits: the files of each split and their rows.
        reading: the caller's options.

    Raises:
        DataError: for a mapping that cannot be read, an id that it lacks, or columns that cannot be
            inferred.
    """
    first = splits["train"][0][0]
    parts = [rows for files in splits.values() for _, rows in files]
    are_ids = all(_all_ids(rows) for rows in parts)
    try:
        place = split_of(first, reading)
        assert place is not None
        mappings = _mappings(store, PurePosixPath(place[1]))
    except DataError:
        if are_ids:
            raise
        mappings = None  # next to triples of labels it may be another kind of file
    if mappings is None:
        return dict(splits)
    entities, relations = mappings
    orders = {"hrt": parts}
    if reading.columns is None and not any(rows.notes for rows in parts):
        orders["htr"] = [replace(rows, codes=rows.codes[:, _HTR]) for rows in parts]
    fits = [
        (kind, order)
        for kind in ("ids", "labels")
        for order, ordered in orders.items()
        if all(_fits(rows, getattr(entities, kind), getattr(relations, kind)) for rows in ordered)
    ]
    if entities.ids == entities.labels and relations.ids == relations.labels:
        fits = [fit for fit in fits if fit[0] == "ids"]
    if not fits and not are_ids:
        return dict(splits)  # triples of labels, not of ids
    kind, order = fits[0] if fits else ("ids", "hrt")
    if len(fits) > 1 and fits[1][0] != kind:
        raise fault(
            store.place(first),
            f"the triples may hold ids or labels of {entities.place}",
            "for labels, move the mapping files away; for ids, use labels that are not ids",
        )
    if len(fits) > 1:
        raise fault(
            store.place(first),
            "the columns may be head, relation, tail or head, tail, relation",
            f"pass {COLUMNS_OPTION}: 1,2,3 or 1,3,2",
        )
    ordered = orders[order]
    notes: tuple[str, ...] = ()
    if order == "htr":
        notes += (f"{store.place(first)}: columns are head, tail, relation",)
    if kind == "ids":
        places = [store.place(member) for files in splits.values() for member, _ in files]
        ordered = [
            _with_labels(rows, place, entities, relations)
            for rows, place in zip(ordered, places, strict=True)
        ]
        notes += (f"{store.place(first)}: triples of ids, with labels from {entities.place}",)
        notes += _left_out(entities, ordered)
    ordered[0] = replace(ordered[0], notes=ordered[0].notes + notes)
    rest = iter(ordered)
    return {split: [(member, next(rest)) for member, _ in files] for split, files in splits.items()}


def _left_out(entities: IdLabels, parts: Sequence[Rows]) -> tuple[str, ...]:
    """A note on the entities of a mapping that occur in no triple, if there are any."""
    labels = pa.chunked_array([rows.labels for rows in parts], pa.large_string())
    occurs = pc.is_in(pa.array(entities.labels, pa.large_string()), labels)
    count = len(occurs) - pc.sum(occurs).as_py()
    kind = "entity occurs" if count == 1 else "entities occur"
    return (f"{entities.place}: {count:,} {kind} in no triple; left out",) if count else ()


def with_own_names(file: File, rows: Rows, reading: Reading) -> Rows:
    """Replaces ids by labels if mappings lie next to a file of triples.

    Raises:
        DataError: as `with_names`.
    """
    path = Path(file.place)
    if not _all_ids(rows) or not path.is_file() or archive_suffix(path.name) is not None:
        return rows
    store = Store(path.parent, tuple(sorted(each.name for each in path.parent.iterdir())))
    mappings = _mappings(store, PurePosixPath())
    if mappings is None:
        return rows
    note = f"{file.place}: triples of ids, with labels from {mappings[0].place}"
    named = _with_labels(rows, file.place, *mappings)
    return replace(named, notes=(*rows.notes, note, *_left_out(mappings[0], [named])))


def _mappings(store: Store, folder: PurePosixPath) -> tuple[IdLabels, IdLabels] | None:
    """The mappings of entities and of relations in a folder, or None."""
    found: dict[str, IdLabels] = {}
    inside = [PurePosixPath(member) for member in store.members]
    for path in sorted(inside, key=lambda path: path.suffix != ".dict"):
        kind = _mapped(path.name)
        if path.parent == folder and kind is not None and kind not in found:
            name = file_name(path.name, LOOK)
            format = "csv" if name.format == "csv" else "tsv"
            found[kind] = read_id_labels(
                store.file(str(path), format, name.compression), None, None
            )
    return (found["entity"], found["relation"]) if len(found) == len(_MAPPINGS) else None


def _all_ids(rows: Rows) -> bool:
    return bool(pc.all(pc.match_substring_regex(rows.labels, "^[0-9]+$")).as_py())


def _fits(rows: Rows, entities: tuple[str, ...], relations: tuple[str, ...]) -> bool:
    """Whether all heads and tails are in `entities`, and all relations in `relations`."""
    for known, columns in ((entities, (0, 2)), (relations, (1,))):
        is_known = pc.is_in(rows.labels, pa.array(known, pa.large_string()))
        if not is_known.to_numpy(zero_copy_only=False)[rows.codes[:, columns]].all():
            return False
    return True


def _with_labels(rows: Rows, place: str, entities: IdLabels, relations: IdLabels) -> Rows:
    """The rows with labels for ids."""
    codes = np.empty(rows.codes.shape, np.int64)
    for column, mapping in enumerate((entities, relations, entities)):
        index = pc.index_in(rows.labels, pa.array(mapping.ids, pa.large_string()))
        codes[:, column] = index.fill_null(-1).to_numpy()[rows.codes[:, column]]
    unknown = np.argwhere(codes < 0)
    if len(unknown):
        row, column = unknown[0].tolist()
        mapping = relations if column == 1 else entities
        text = rows.labels[rows.codes[row, column]].as_py()
        raise fault(
            f"{place}, {rows.where(row)}",
            f"the {'relation' if column == 1 else 'entity'} {quoted(text)} is not among the "
            f"{len(mapping.ids):,} ids of {mapping.place}",
            "restore the mapping, or the triple",
        )
    codes[:, 1] += len(entities.labels)
    all_labels = pa.array(entities.labels + relations.labels, pa.large_string())
    compact, labels = used(codes, all_labels)
    assert not suspects(labels)
    return replace(rows, codes=compact, labels=labels, guessed=False)
