"""Reads the wanted members of a `.zip` or `.tar` into memory; nothing is unpacked to disk."""

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

# What each ending is compressed by.
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
# Python before 3.11.10 reads the digits of an extended header in quadratic time (CVE-2024-6232):
# the squares of their sizes, added up, may come to one header of 64 KiB, some seconds.
_MOST_WORK = (2**16) ** 2
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Members = tuple[list[str], dict[str, bytes]]
Wanted = Callable[[str], bool]


def archive_suffix(name: str) -> str | None:
    """The archive suffix that a file name ends with, as written there, or None."""
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
        The paths of all files, in archive order, hidden ones left out, and the bytes of the
        wanted ones by path.

    Raises:
        DataError: for an archive that is damaged or encrypted, that unfolds beyond `most_bytes` or
            has more than `MOST_MEMBERS` files, or a wanted member that is a link or lies outside
            the archive.
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
                    "encrypted, or compressed by another method than deflate",
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
                # counted beside the stream: a sparse member is larger than its bytes there
                size += info.size
                if size > most:
                    raise too_large(path, most)
                member = archive.extractfile(info)
                assert member is not None
                contents[name] = member.read()
        # to the end of the stream, where a checksum may be
        for _ in _pieces(stream):
            pass
    return members, contents


def _wary(path: Path) -> type[tarfile.TarInfo]:
    """Headers of a tar whose extended ones are refused where reading them would take too long."""
    work = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal work
            header = super().frombuf(buf, encoding, errors)
            if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
                work += header.size**2
                if work > _MOST_WORK:
                    remedy = "repack the archive, by tar --format=gnu"
                    raise fault(path, "extended headers of many thousands of bytes", remedy)
            return header

    return Header


def _too_many(path: Path) -> DataError:
    remedy = "unpack it, if you trust it, and give the folder that holds the splits"
    return fault(path, f"more than {MOST_MEMBERS:,} files", remedy)


def _pieces(stream: IO[bytes] | Capped) -> Iterator[bytes]:
    """The stream in chunks: read in one go, a zip member may unfold beyond its declared size."""
    while data := stream.read(_CHUNK):
        yield data


def _visible(name: str) -> str | None:
    """The path of a member in one spelling, or None for a hidden file (`._x`, `__MACOSX/x`)."""
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
    """Turns whatever the archive readers raise on damaged bytes into a DataError."""
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
