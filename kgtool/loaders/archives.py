"""Reads the wanted members of a `.zip` or `.tar.gz` into memory; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from kgtool.errors import DataError
from kgtool.loaders.faults import fault, quoted

ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz")
MAX_BYTES = 4 * 2**30
_CHUNK = 2**20
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Members = tuple[list[str], dict[str, bytes]]


def archive_suffix(name: str) -> str | None:
    """The archive suffix that a file name ends with, as written there, or None."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[-len(suffix) :]
    return None


def read_zip(path: Path, wanted: Container[str]) -> Members:
    """Reads the wanted members of a zip file.

    Args:
        path: the zip file.
        wanted: the names of the files to read, in whatever folder they lie.

    Returns:
        The paths of all files, in archive order, hidden ones left out, and the bytes of the
        wanted ones by path.

    Raises:
        DataError: for an archive that is damaged, encrypted or larger than `MAX_BYTES` when
            uncompressed, or a wanted member that is a link or lies outside the archive.
    """
    members: list[str] = []
    contents: dict[str, bytes] = {}
    size = 0
    with _as_data_errors(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = _visible(info.filename)
            if name is None or (info.is_dir() and PurePosixPath(name).name not in wanted):
                continue
            members.append(name)
            if PurePosixPath(name).name not in wanted:
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
            if size > MAX_BYTES:
                raise _too_large(path)
            with archive.open(info) as stream:
                contents[name] = b"".join(_pieces(stream))
    return members, contents


def read_tar(path: Path, wanted: Container[str]) -> Members:
    """Reads the wanted members of a gzipped tar file, in one pass; see `read_zip`."""
    members: list[str] = []
    contents: dict[str, bytes] = {}
    size = 0
    with _as_data_errors(path), _CappedGzip(path) as stream:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as archive:
            for info in archive:
                name = _visible(info.name)
                if name is None or (info.isdir() and PurePosixPath(name).name not in wanted):
                    continue
                members.append(name)
                if PurePosixPath(name).name not in wanted:
                    continue
                _check_member(path, name, info.isreg())
                # counted beside the stream: a sparse member is larger than its bytes there
                size += info.size
                if size > MAX_BYTES:
                    raise _too_large(path)
                member = archive.extractfile(info)
                assert member is not None
                contents[name] = member.read()
        # to the end of the stream, where gzip keeps its checksum
        for _ in _pieces(stream):
            pass
    return members, contents


def _pieces(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The stream in chunks: read in one go, a zip member may unfold beyond its declared size."""
    while data := stream.read(_CHUNK):
        yield data


class _CappedGzip(gzip.GzipFile):
    """A gzip file that unfolds to at most `MAX_BYTES`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._path = path
        self._left = MAX_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes; empty at the end."""
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._path)
        return data


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


def _too_large(path: Path) -> DataError:
    return fault(
        path,
        f"more than {MAX_BYTES:,} bytes when uncompressed",
        "unpack it, if you trust it, and give the folder",
    )


@contextmanager
def _as_data_errors(path: Path) -> Iterator[None]:
    """Turns whatever the archive readers raise on damaged bytes into a DataError."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        struct.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        suffix = archive_suffix(path.name)
        raise fault(
            path,
            f"damaged, cut short or not a {suffix} file ({type(error).__name__}: {error})",
            "fetch or pack it again",
        ) from error
