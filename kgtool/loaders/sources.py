"""Finds the split files of a folder, `.zip` or `.tar.gz`, and reads their bytes into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kgtool.errors import DataError
from kgtool.loaders.archives import ARCHIVE_SUFFIXES, archive_suffix, read_tar, read_zip
from kgtool.loaders.faults import fault, nearest, quoted
from kgtool.registry.entries import nearest_name
from kgtool.triples import SPLITS

SPLIT_SUFFIXES = (".txt", ".tsv")
# Triples that do not hold, for triple classification: CoDEx (Safavi & Koutra 2020) has such files.
NEGATIVES = {"valid": "valid_negatives", "test": "test_negatives"}
_MOST_NAMES_LISTED = 8


@dataclass(frozen=True)
class SplitFile:
    """The bytes of a split.

    Args:
        split: `"train"`, `"valid"` or `"test"`, or the stem of a file of negatives.
        member: the path of the file inside its folder or archive.
        place: the file as errors name it, such as `data/kg/train.txt` or `kg.zip:train.txt`.
        data: the whole file.
    """

    split: str
    member: str
    place: str
    data: bytes


def read_splits(path: Path) -> dict[str, SplitFile]:
    """Reads the three split files of a folder, `.zip`, `.tar.gz` or `.tgz`.

    Args:
        path: the folder, which holds the files itself, or the archive, which holds them at its
            root or in one folder. Nothing is unpacked to disk.

    Returns:
        The files by split.

    Raises:
        DataError: for a path that is missing or of another kind, an archive that is damaged or
            too large, a split that is missing, found twice, or not a regular file.
    """
    return _read(path, SPLITS)


def read_negatives(path: Path) -> dict[str, SplitFile]:
    """Reads `valid_negatives` and `test_negatives`, which lie beside the split files.

    Returns:
        The files by split, of those that are there.

    Raises:
        DataError: as `read_splits`.
    """
    files = _read(path, tuple(NEGATIVES.values()), optional=True)
    return {split: files[stem] for split, stem in NEGATIVES.items() if stem in files}


def _read(path: Path, stems: Sequence[str], optional: bool = False) -> dict[str, SplitFile]:
    """The files of some stems, by stem."""
    with _os_errors_as_data_errors(path):
        if path.is_dir():
            return _read_folder(path, stems, optional)
        if path.is_file():
            return _read_archive(path, stems, optional)
        if path.exists():
            raise _not_a_dataset(path)
        raise _missing(path)


def _names_of(stems: Sequence[str]) -> dict[str, str]:
    """The stem of each file name."""
    return {stem + suffix: stem for stem in stems for suffix in SPLIT_SUFFIXES}


def dataset_name(path: Path) -> str:
    """The name of the folder, or of the archive without its suffix."""
    name = path.resolve().name
    return name if path.is_dir() else name[: len(name) - len(archive_suffix(name) or "")]


def _read_folder(path: Path, stems: Sequence[str], optional: bool) -> dict[str, SplitFile]:
    entries = {entry.name: entry for entry in sorted(path.iterdir())}
    visible = [name for name in entries if not name.startswith(".")]
    files = _choose(path, visible, stems, optional)
    for name in files.values():
        if not entries[name].is_file():
            raise fault(entries[name], "not a file", f"put a file of triples at {name}")
    return {
        split: SplitFile(split, name, str(entries[name]), entries[name].read_bytes())
        for split, name in files.items()
    }


def _read_archive(path: Path, stems: Sequence[str], optional: bool) -> dict[str, SplitFile]:
    suffix = archive_suffix(path.name)
    if suffix is None:
        raise _not_a_dataset(path)
    read = read_zip if suffix == ".zip" else read_tar
    members, contents = read(path, _names_of(stems))
    files = _choose(path, members, stems, optional)
    return {
        split: SplitFile(split, name, f"{path}:{name}", contents[name])
        for split, name in files.items()
    }


def _choose(
    path: Path, members: Sequence[str], stems: Sequence[str], optional: bool
) -> dict[str, str]:
    """The member of each stem.

    Args:
        path: the folder or archive, for errors.
        members: the paths of its files; a path occurs twice where an archive holds it twice.
        stems: the names of files without their suffix, such as the splits'.
        optional: whether a file may be missing.
    """
    stem_of = _names_of(stems)
    candidates = [name for name in members if PurePosixPath(name).name in stem_of]
    folders = sorted({str(PurePosixPath(name).parent) for name in candidates})
    if len(folders) > 1:
        raise fault(
            path,
            f"split files in {len(folders)} folders: {_listed(folders)}",
            "unpack the archive and give one of these folders",
        )
    chosen: dict[str, str] = {}
    for split in stems:
        names = [name for name in candidates if stem_of[PurePosixPath(name).name] == split]
        if not names and optional:
            continue
        if not names:
            raise _missing_split(path, split, members)
        if len(names) > 1:
            raise fault(
                path, f"more than one file for the {split} split: {_listed(names)}", "keep one"
            )
        chosen[split] = names[0]
    return chosen


def _missing_split(path: Path, split: str, members: Sequence[str]) -> DataError:
    expected = " or ".join(split + suffix for suffix in SPLIT_SUFFIXES)
    problem = f"no {expected} for the {split} split; " + (
        f"it holds {_listed(members)}" if members else "it holds no files"
    )
    inner = _folder_within(path) if path.is_dir() else None
    if inner is not None:
        return fault(path, problem, f"give the folder that holds the files: {inner}")
    spare = [name for name in members if PurePosixPath(name).name not in _names_of(SPLITS)]
    like = nearest(split + SPLIT_SUFFIXES[0], [name for name in spare if "." in name])
    hint = f" (is it {quoted(like)}?)" if like else ""
    return fault(path, problem, f"name the file of the {split} split {expected}{hint}")


def _folder_within(path: Path) -> Path | None:
    """The first subfolder that holds a split file."""
    names = _names_of(SPLITS)
    files = (path / folder / name for folder in sorted(path.iterdir()) for name in names)
    return next((file.parent for file in files if file.is_file()), None)


def _not_a_dataset(path: Path) -> DataError:
    kinds = f"a folder or a {', '.join(ARCHIVE_SUFFIXES[:-1])} or {ARCHIVE_SUFFIXES[-1]} file"
    names = ", ".join(split + SPLIT_SUFFIXES[0] for split in SPLITS)
    remedy = f"give {kinds} that holds {names}"
    if path.name in _names_of(SPLITS):
        remedy = f"give the folder that holds it: {path.parent}"
    return fault(path, f"not {kinds}", remedy)


def _missing(path: Path) -> DataError:
    parent = path.parent
    if not parent.is_dir():
        return fault(path, f"no such file or folder, nor is there a folder {parent}", "check it")
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    # the name of an archive without its suffix may be too short to be like the whole
    unpacked = (path.name + suffix for suffix in ARCHIVE_SUFFIXES)
    like = next((name for name in unpacked if name in names), None) or nearest(path.name, names)
    remedy = f"give {parent / like}, the nearest name there" if like else "check the path"
    if not like and (named := nearest_name(str(path))):
        remedy += f", or give {named}, a name of kgtool data list"
    return fault(path, "no such file or folder", remedy)


def _listed(names: Sequence[str]) -> str:
    shown = [quoted(name) for name in names[:_MOST_NAMES_LISTED]]
    return ", ".join(shown + ["…"] * (len(names) > len(shown)))


@contextmanager
def _os_errors_as_data_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename or path
        raise fault(place, f"cannot be read ({reason})", "check the file and its rights") from error
