"""Converts the layouts of sources that no loader reads to a folder of `train.txt`, ... .

- `ogb`, the archives of the Open Graph Benchmark (Hu et al. 2020): `NAME/split/*/train.pt`, ... are
  dictionaries of arrays of ids, pickled by PyTorch; `NAME/mapping/*.csv.gz` has their labels.
- `hetionet` (Himmelstein et al. 2017): `edges.tsv.gz` (source, metaedge, target) and `nodes.tsv`
  (id, name, kind), without splits.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.loaders import Reading, read_triples
from kgtool.data.loaders.labels import read_types
from kgtool.data.loaders.sources import TYPES
from kgtool.data.loaders.write import write_dataset
from kgtool.data.splitting import default_split
from kgtool.errors import fault
from kgtool.storage.compression import DAMAGE
from kgtool.storage.files import write_errors


def convert_ogb(fetched: Path, out: Path) -> None:
    """The one archive in a folder, as `train.txt`, `valid.txt`, `test.txt` and perhaps `types.tsv`.

    The label of an entity with a type is `TYPE:LABEL`, because ids count within a type.

    Raises:
        DataError: for an archive of another layout, or one that is damaged.
    """
    (path,) = fetched.iterdir()
    try:
        with zipfile.ZipFile(path) as archive:
            _convert_ogb(archive, path, out)
    except _UNFIT as error:
        problem = f"not an archive of the Open Graph Benchmark ({type(error).__name__}: {error})"
        raise fault(path, problem, "fetch it again") from error


_UNFIT = (
    *DAMAGE, zipfile.BadZipFile, pickle.UnpicklingError, pa.ArrowInvalid, AttributeError,
    LookupError, StopIteration, TypeError,
)  # fmt: skip


def _convert_ogb(archive: zipfile.ZipFile, path: Path, out: Path) -> None:
    names = [PurePosixPath(name) for name in archive.namelist()]

    def labels(file: PurePosixPath) -> pa.Array:
        """The second column of a mapping; ids, the first, count from 0."""
        with archive.open(str(file)) as packed:
            table = pd.read_csv(packed, compression="gzip", dtype=str, keep_default_na=False)
        if table.iloc[:, 0].tolist() != [str(i) for i in range(len(table))]:
            raise fault(f"{path}:{file}", "the ids do not count from 0", "fetch it again")
        return pa.array(table.iloc[:, 1], pa.string())

    mappings = {name.name: name for name in names if name.parent.name == "mapping"}
    kinds = sorted(name.removesuffix(_KIND) for name in mappings if name.endswith(_KIND))
    relation = next(mappings[name] for name in _RELATIONS if name in mappings)
    relations = labels(relation)
    entities = {
        kind: pc.binary_join_element_wise(kind, labels(mappings[kind + _KIND]), ":")
        for kind in kinds
    } or {"": labels(mappings[_ENTITIES])}
    out.mkdir()
    for split in SPLITS:
        (member,) = (
            n for n in names if n.name == f"{split}.pt" and n.parent.parent.name == "split"
        )
        with archive.open(str(member)) as stream:
            ids = _unpickled(stream, f"{path}:{member}")
        sides = []
        for side in ("head", "tail"):
            types = ids.get(f"{side}_type") if kinds else None
            sides.append(_named(entities, _ids(ids[side]), types))
        columns = [sides[0], relations.take(pa.array(_ids(ids["relation"]))), sides[1]]
        _write_columns(out / f"{split}.txt", columns)
    if kinds:
        pairs = [(label, kind) for kind in kinds for label in entities[kind].to_pylist()]
        _write_columns(out / TYPES, [pa.array(column) for column in zip(*pairs, strict=True)])


_KIND = "_entidx2name.csv.gz"
_ENTITIES = "nodeidx2entityid.csv.gz"
_RELATIONS = ("relidx2relname.csv.gz", "reltype2relid.csv.gz")


def _named(entities: Mapping[str, pa.Array], ids: np.ndarray, types: Any) -> pa.Array:
    """The labels of entities; ids count within the type of each, if there are types."""
    if types is None:
        return entities[""].take(pa.array(ids))
    starts, start = {}, 0
    for kind, labels in entities.items():
        starts[kind] = start
        start += len(labels)
    if len(types) != len(ids):
        raise KeyError(f"{len(types)} types of {len(ids)} ids")
    codes = pd.Series(types).map(starts)
    whole = pa.concat_arrays(list(entities.values()))
    return whole.take(pa.array(ids + codes.to_numpy(np.int64)))


def _ids(array: Any) -> np.ndarray:
    if not isinstance(array, _Array) or array.values is None:
        raise KeyError("no array of ids")
    if len(array.values) and array.values.min() < 0:
        raise KeyError("an id is negative")
    return array.values


def _write_columns(path: Path, columns: list[pa.Array]) -> None:
    table = pa.table(columns, [str(i) for i in range(len(columns))])
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with write_errors(path):
        pa.csv.write_csv(table, path, options)


class _Text:
    """Bytes that a pickle holds as a text of Latin-1, decoded late: most are never needed."""

    def __init__(self, text: str, encoding: str) -> None:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes in {encoding}")
        self.text = text


class _Type:
    """The type of an array: `numpy.dtype(code)`, with its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """An array of integers of one axis. Others, such as OGB's negatives, are left out unread."""

    values: np.ndarray | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, _, data = state
        if len(shape) != 1:
            return
        if not isinstance(kind, _Type) or kind.code not in ("i4", "i8"):
            raise pickle.UnpicklingError("an array of other than integers")
        raw = data.text.encode("latin1") if isinstance(data, _Text) else data
        self.values = np.frombuffer(raw, np.dtype(kind.order + kind.code)).astype(np.int64)
        if len(self.values) != shape[0]:
            raise pickle.UnpicklingError("an array that is cut short")


# All that a pickle of OGB names. These classes only hold data, so nothing in a pickle can run.
_HARMLESS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Text,
    ("builtins", "bytes"): bytes,
}


class _Unpickler(pickle.Unpickler):
    """Reads dictionaries of lists and NumPy arrays, and refuses whatever else a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _HARMLESS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def _unpickled(stream: IO[bytes], place: str) -> dict[str, Any]:
    """The dictionary in a file that PyTorch saved: a zip, or before version 1.6 some pickles."""
    if stream.read(2) == b"PK":
        with zipfile.ZipFile(stream) as archive:
            (name,) = (n for n in archive.namelist() if PurePosixPath(n).name == "data.pkl")
            with archive.open(name) as pickled:
                found = _Unpickler(pickled).load()
    else:
        stream.seek(0)
        for _ in range(4):  # a magic number, the format's version, the kind of machine, the data
            found = _Unpickler(stream).load()
    if not isinstance(found, dict):
        raise fault(place, "it does not hold a dictionary", "fetch it again")
    return found


def convert_hetionet(fetched: Path, out: Path) -> None:
    """The edges and nodes of Hetionet, split as `kgtool data split` does it by default.

    Raises:
        DataError: for files of another layout.
    """
    edges = fetched / "edges.tsv.gz"
    triples = read_triples(edges, Reading(columns=("source", "metaedge", "target"), header=True))
    vocabulary, ids = triples.vocabulary, triples.triples.unique(dim=0)
    code = default_split(ids, len(vocabulary.entities), len(vocabulary.relations))
    parts = [ids[code == number] for number in range(len(SPLITS))]
    types = read_types(fetched / "nodes.tsv", vocabulary.entity_ids)
    known = {label: kinds for label, kinds in types.items() if label in vocabulary.entity_ids}
    out.mkdir()
    write_dataset(KGDataset("Hetionet", None, vocabulary, *parts, types=known), out)
    (fetched / "nodes.tsv").rename(out / "nodes.tsv")


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    "ogb": convert_ogb,
    "hetionet": convert_hetionet,
}
