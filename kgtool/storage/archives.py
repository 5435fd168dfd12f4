"""Reads members of a `.zip` or `.tar` archive into memory, without unpacking it to the disk."""

from __future__ import annotations

import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from kgtool.errors import DataError, fault, quoted
from kgtool.storage.compression import DAMAGE, Capped, most_bytes, too_large, unfolding

# The compression of each ending.
_TARS = {
    ".tar.gz": ".gz",
    ".tgz": ".gz",
    ".tar.bz2": ".bz2",
    ".tbz2": ".bz2",
    ".tar.xz": ".xz",
    ".txz": ".xz",
    ".tar.zst": ".zst",
    ".tar": "",
}
ARCHIVE_SUFFIXES = (".zip", *_TARS)
MOST_MEMBERS = 100_000
_CHUNK = 2**20
# Python before 3.11.10 parses an extended header in quadratic time (CVE-2024-6232). The sum of the
# squared sizes is limited to that of one header of 64 KiB, which takes some seconds.
_MOST_WORK = (2**16) ** 2
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Members = tuple[list[str], dict[str, bytes]]
Wanted = Callable[[str], bool]


def archive_suffix(name: str) -> str | None:
    """The archive suffix of a file name as it is written, or None."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[-len(suffix) :]
    return None


def read_archive(path: Path, wanted: Wanted) -> Members:
    """Reads the wanted members of an archive.

    Args:
        path: a file whose name ends with one of `ARCHIVE_SUFFIXES`.
        wanted: whether to read a member, given its path.

    Returns:
        The paths of all files except hidden ones, in archive order, and the bytes of the wanted
        files by path.

    Raises:
        DataError: for an archive that is damaged or encrypted, that decompresses to more than
            `most_bytes`, or that has more than `MOST_MEMBERS` files; for a wanted member that is a
            link or points outside the archive.
    """
    suffix = (archive_suffix(path.name) or "").lower()
    return _read_zip(path, wanted) if suffix == ".zip" else _read_tar(path, wanted, _TARS[suffix])


def _read_zip(path: Path, wanted: Wanted) -> Members:
    members: list[str] = []
    contents: dict[str, bytes] = {}
    size, most = 0, most_bytes(path.stat().st_size)
    with _as_data_errors(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _visible(info.filename)
            if name is None or (info.is_dir() and not wanted(name)):
                continue
            members.append(name)
            if len(members) > MOST_MEMBERS:
                raise _too_many(path)
            if not wanted(name):
                continue
            mode = info.external_attr >> 16
            regular = not info.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG)
            _check_member(path, name, regular)
            if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                raise fault(
                    f"{path}:{name}",
                    "encrypted, or compressed by a method other than deflate",
                    "repack the archive without a password, as a plain zip",
                )
            size += info.file_size
            if size > most:
                raise too_large(path, most)
            with archive.open(info) as stream:
                contents[name] = b"".join(_pieces(stream))
    return members, contents


def _read_tar(path: Path, wanted: Wanted, compression: str) -> Members:
    """In one pass."""
    members: list[str] = []
    contents: dict[str, bytes] = {}
    size, most = 0, most_bytes(path.stat().st_size)
    with _as_data_errors(path), path.open("rb") as packed:
        stream = Capped(unfolding(packed, compression) if compression else packed, path, most)
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=_CHUNK, tarinfo=_wary(path)
        ) as archive:
            for count, info in enumerate(archive, 1):
                if count > MOST_MEMBERS:
                    raise _too_many(path)
                name = _visible(info.name)
                if name is None or (info.isdir() and not wanted(name)):
                    continue
                members.append(name)
                if not wanted(name):
                    continue
                _check_member(path, name, info.isreg())
                # counted in addition to the stream: a sparse member is larger than its bytes there
                size += info.size
                if size > most:
                    raise too_large(path, most)
                member = archive.extractfile(info)
                assert member is not None
                contents[name] = member.read()
        # read to the end of the stream: a checksum may follow the archive
        for _ in _pieces(stream):
            pass
    return members, contents


def _wary(path: Path) -> type[tarfile.TarInfo]:
    """A tar header class that refuses extended headers which would take too long to parse."""
    work = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal work
            header = super().frombuf(buf, encoding, errors)
            if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
                work += header.size**2
                if work > _MOST_WORK:
                    remedy = "repack the archive by tar --format=gnu"
                    raise fault(path, "the extended headers are too long", remedy)
            return header

    return Header


def _too_many(path: Path) -> DataError:
    remedy = "unpack it, if you trust it, and give the folder of the splits"
    return fault(path, f"more than {MOST_MEMBERS:,} files", remedy)


def _pieces(stream: IO[bytes] | Capped) -> Iterator[bytes]:
    """The stream in chunks: a single read may return more than a zip member's declared size."""
    while data := stream.read(_CHUNK):
        yield data


def _visible(name: str) -> str | None:
    """The normalised path of a member, or None for a hidden file (`._x`, `__MACOSX/x`)."""
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts
    )
    return None if hidden or not path.name else str(path)


def _check_member(path: Path, name: str, regular: bool) -> None:
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise fault(
            path, f"the member {quoted(name)} points outside the archive", "repack the archive"
        )
    if not regular:
        raise fault(
            f"{path}:{name}",
            "a link, folder or device where a file is expected",
            "repack the archive with the files themselves (tar --dereference)",
        )


@contextmanager
def _as_data_errors(path: Path) -> Iterator[None]:
    """Turns the errors of the archive readers on damaged bytes into a DataError."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (*DAMAGE, RuntimeError, struct.error, tarfile.TarError, zipfile.BadZipFile) as error:
        suffix = archive_suffix(path.name)
        raise fault(
            path,
            f"damaged, cut short or not a {suffix} file ({type(error).__name__}: {error})",
            "fetch or pack it again",
        ) from error
