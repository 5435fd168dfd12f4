"""Finds the split files of a folder or archive, and reads them into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kgtool.data.dataset import SPLITS
from kgtool.data.loaders.reading import FORMATS, LOOK, Reading, file_name
from kgtool.data.registry.entries import nearest_name
from kgtool.errors import DataError, fault, nearest, quoted
from kgtool.storage.archives import ARCHIVE_SUFFIXES, Wanted, archive_suffix, read_archive
from kgtool.storage.compression import File, unfolded

# Files of false triples for triple classification, as in CoDEx (Safavi & Koutra 2020).
NEGATIVES = {"valid": "valid_negatives", "test": "test_negatives"}
# The folders of the splits of a PyKEEN data set (`Dataset.to_directory_binary`).
PYKEEN = {"train": "training", "valid": "validation", "test": "testing"}
# The file with the types of the entities of a data set.
TYPES = "types.tsv"
_MOST_NAMES_LISTED = 8


@dataclass(frozen=True)
class Store:
    """The files of a folder or an archive.

    Args:
        path: the folder or archive.
        members: the paths of its files inside it; of a folder's subfolders, only the files in
            those that are named like a split.
        contents: for an archive, the bytes of the wanted files, by path.
    """

    path: Path
    members: tuple[str, ...]
    contents: Mapping[str, bytes] | None = None

    def place(self, member: str) -> str:
        """A file as errors name it, such as `data/kg/train.txt` or `kg.zip:train.txt`."""
        return str(self.path / member) if self.contents is None else f"{self.path}:{member}"

    def file(self, member: str, format: str, compression: str = "") -> File:
        """A file, read and unfolded.

        Raises:
            DataError: if it is not a file, cannot be read, or is damaged.
        """
        place = self.place(member)
        if self.contents is not None:
            data = self.contents[member]
        else:
            with os_errors_as_data_errors(self.path / member):
                if not (self.path / member).is_file():
                    raise not_a_file(self.path / member)
                data = (self.path / member).read_bytes()
        archive = None if self.contents is None else self.path.stat().st_size
        return unfolded(member, place, data, format, compression=compression, packed=archive)


def open_store(path: Path, wanted: Wanted) -> Store:
    """Opens a folder or archive.

    Args:
        path: the folder or archive.
        wanted: whether to read a file of an archive, given its path there.

    Raises:
        DataError: for a missing path, a path that is not a folder or archive, or a damaged archive.
    """
    with os_errors_as_data_errors(path):
        if path.is_dir():
            return Store(path, tuple(_in_folder(path)))
        if path.is_file() and archive_suffix(path.name) is not None:
            members, contents = read_archive(path, wanted)
            return Store(path, tuple(members), contents)
        if path.exists():
            raise _not_a_dataset(path)
        raise missing(path)


def _in_folder(path: Path) -> Iterator[str]:
    """The visible files of a folder and of its split folders, in name order."""
    stems = (*SPLITS, *NEGATIVES.values(), *PYKEEN.values())
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.name in stems and entry.is_dir():
            inner = sorted(part.name for part in entry.iterdir())
            yield from (f"{entry.name}/{name}" for name in inner if not name.startswith("."))
        else:
            yield entry.name


def split_of(member: str, reading: Reading) -> tuple[str, str] | None:
    """The split or negatives of a file, and the folder of its data set, by the file's name."""
    path = PurePosixPath(member)
    name = file_name(path.name, reading)
    stems = (*SPLITS, *NEGATIVES.values())
    if name.format is None:
        return None
    if name.stem in stems:
        return name.stem, str(path.parent)
    if path.parent.name in stems and not path.name.startswith("_"):
        return path.parent.name, str(path.parent.parent)
    return None


def find_splits(store: Store, reading: Reading) -> dict[str, list[str]]:
    """The files of train, valid and test: one file each, or the files of a folder of that name.

    Raises:
        DataError: for a split that is missing or occurs twice.
    """
    splits = _choose(store, SPLITS, reading)
    for split in SPLITS:
        if split not in splits:
            raise _missing_split(store, split, reading)
    return splits


def find_negatives(store: Store, reading: Reading) -> dict[str, list[str]]:
    """The files of `valid_negatives` and `test_negatives`, by split, where they exist."""
    negatives = _choose(store, tuple(NEGATIVES.values()), reading)
    return {split: negatives[stem] for split, stem in NEGATIVES.items() if stem in negatives}


def read_members(store: Store, members: Sequence[str], reading: Reading) -> Iterator[File]:
    """The files of a split, one at a time."""
    for member in members:
        name = file_name(PurePosixPath(member).name, reading)
        assert name.format is not None
        yield store.file(member, name.format, name.compression)


def dataset_name(path: Path) -> str:
    """The name of the folder, or of the archive without its suffix."""
    name = path.resolve().name
    return name if path.is_dir() else name[: len(name) - len(archive_suffix(name) or "")]


def _choose(store: Store, stems: Sequence[str], reading: Reading) -> dict[str, list[str]]:
    """Stem → its members, for the stems that have some; an archive may have a path twice."""
    places = [(member, split_of(member, reading)) for member in store.members]
    matches = [(member, *place) for member, place in places if place is not None]
    matches = [(member, stem, folder) for member, stem, folder in matches if stem in stems]
    folders = sorted({folder for _, _, folder in matches})
    if len(folders) > 1:
        raise fault(
            store.path,
            f"split files in {len(folders)} folders: {listed(folders)}",
            "unpack the archive and give one of these folders",
        )
    chosen: dict[str, list[str]] = {}
    for stem in stems:
        names = sorted(member for member, of, _ in matches if of == stem)
        parts = [name for name in names if str(PurePosixPath(name).parent) != folders[0]]
        if len(names) > 1 and (len(parts) < len(names) or len(set(names)) < len(names)):
            raise fault(
                store.path, f"more than one file for the {stem} split: {listed(names)}", "keep one"
            )
        if names:
            chosen[stem] = names
    return chosen


def _missing_split(store: Store, split: str, reading: Reading) -> DataError:
    members = store.members
    usual, *others = (ending for endings in FORMATS.values() for ending in endings)
    problem = f"no {split}{usual} (or {', '.join(others)}) for the {split} split; " + (
        f"the files are {listed(members)}" if members else "it has no files"
    )
    inner = _folder_within(store.path, reading) if store.path.is_dir() else None
    if inner is not None:
        return fault(store.path, problem, f"give the folder of the split files: {inner}")
    readable = [name for name in members if file_name(name, reading).format is not None]
    if len(readable) == 1:
        return fault(store.path, problem, f"give the file itself: {store.path / readable[0]}")
    spare = [name for name in members if split_of(name, reading) is None and "." in name]
    like = nearest(split + usual, spare)
    hint = f" (did you mean {quoted(like)}?)" if like else ""
    return fault(store.path, problem, f"name the file of the {split} split {split}{usual}{hint}")


def _folder_within(path: Path, reading: Reading) -> Path | None:
    """The first subfolder with a split file, or None."""
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and any(split_of(name, reading) for name in _in_folder(folder)):
            return folder
    return None


def not_a_file(path: Path) -> DataError:
    """The error for a folder or device where a file is expected."""
    return fault(path, "not a file", f"put a file of triples at {path.name}")


def _not_a_dataset(path: Path) -> DataError:
    known = file_name(path.name, LOOK)
    if known.stem in SPLITS and known.format is not None:
        problem = f"the {known.stem} split alone, with the other splits next to it"
        return fault(path, problem, f"give its folder: {path.parent}")
    return unknown_format(path)


def unknown_format(path: Path) -> DataError:
    """The error for a file whose name does not show its format."""
    endings = ", ".join(ending for endings in FORMATS.values() for ending in endings)
    return fault(
        path,
        "the file name does not show the format",
        f"pass --format with one of {', '.join(FORMATS)} (kgtool data inspect, convert and split "
        f"take it), or let its name end in one of {endings}",
    )


def missing(path: Path) -> DataError:
    """The error for a path that does not exist, with the nearest name in its folder."""
    if path.is_symlink():
        return fault(path, "a broken or circular link", "make the link again")
    parent = path.parent
    if not parent.is_dir():
        return fault(
            path, f"no such file or folder; its folder {parent} does not exist", "check the path"
        )
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    # without its suffix, the name of an archive may be too short to match
    unpacked = (path.name + suffix for suffix in ARCHIVE_SUFFIXES)
    like = next((name for name in unpacked if name in names), None) or nearest(path.name, names)
    remedy = f"give {parent / like}, the nearest name there" if like else "check the path"
    if not like and (named := nearest_name(str(path))):
        remedy += f", or give {named}, a name of kgtool data list"
    return fault(path, "no such file or folder", remedy)


def listed(names: Sequence[str]) -> str:
    """The first few names, in quotes."""
    shown = [quoted(name) for name in names[:_MOST_NAMES_LISTED]]
    return ", ".join(shown + ["…"] * (len(names) > len(shown)))


@contextmanager
def os_errors_as_data_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into a DataError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename or path
        remedy = "check the file and its permissions"
        raise fault(place, f"cannot be read ({reason})", remedy) from error
