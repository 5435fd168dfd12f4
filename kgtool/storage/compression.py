"""Reads a file of triples into memory and decompresses it, within limits on its size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from kgtool.errors import DataError, fault

MAX_BYTES = 4 * 2**30
# Files of triples compress by a factor of 10 to 30. A file with a far larger factor is an attack.
MAX_RATIO = 200
ALWAYS = 64 * 2**20  # bytes that every file may decompress to
_CHUNK = 2**20


def most_bytes(packed: int) -> int:
    """The most bytes that a file of `packed` bytes may decompress to."""
    return min(MAX_BYTES, max(ALWAYS, MAX_RATIO * packed))


@dataclass(frozen=True)
class File:
    """A file of triples.

    Args:
        member: the path of the file inside its folder or archive.
        place: the file as errors name it, such as `data/kg/train.txt` or `kg.zip:train.txt`.
        data: the whole file, decompressed.
        format: a key of `kgtool.data.loaders.reading.FORMATS`.
        notes: notes for the user on how the file was decompressed.
    """

    member: str
    place: str
    data: bytes
    format: str = "tsv"
    notes: tuple[str, ...] = ()


class Capped(io.RawIOBase):
    """A decompressed stream with a limit on its bytes."""

    def __init__(self, stream: IO[bytes], place: object, most: int) -> None:
        """Wraps a stream of at most `most` bytes; `place` names it in errors."""
        self._stream = stream
        self._place = place
        self._most = self._left = most

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, or a megabyte for a negative size; empty at the end.

        Raises:
            DataError: if the stream exceeds its limit.
        """
        data = self._stream.read(_CHUNK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise too_large(self._place, self._most)
        return bytes(data)


def unfolding(stream: IO[bytes], compression: str) -> IO[bytes]:
    """The decompressed stream; reading it raises an error of `DAMAGE` if it is damaged."""
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": lambda packed: pa.CompressedInputStream(packed, "zstd"),
    }
    opened: IO[bytes] = openers[compression](stream)
    return opened


# The errors that the decompressors raise on damaged bytes.
DAMAGE = (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error)


# The first bytes of compressed files; none of them begins a text.
_BEGINNINGS = {
    b"\x1f\x8b": ".gz",
    b"BZh91AY&SY": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}


def unfolded(
    member: str,
    place: str,
    data: bytes,
    format: str,
    *,
    compression: str,
    packed: int | None = None,
) -> File:
    """A file in memory, decompressed.

    The first bytes show the compression. A text whose name ends in `.gz` is read as the text that
    it is, and a compressed file without such an ending is decompressed, both with a note.

    Args:
        member, place, format: as in `File`.
        data: the file as it is stored.
        compression: the compression that its name shows: `.gz`, `.bz2`, `.xz`, `.zst`, or an empty
            text.
        packed: the size of the archive that contains it, in bytes; the data may be compressed
            twice.

    Raises:
        DataError: for a file that is damaged, cut short, or that exceeds `most_bytes`.
    """
    begins = (ending for first, ending in _BEGINNINGS.items() if data.startswith(first))
    actual = next(begins, "" if not compression or _is_text(data) else compression)
    if actual == compression:
        return File(member, place, unfold(data, compression, place, packed), format)
    shown = f"compressed ({actual})" if actual else "not compressed"
    note = f"{place}: the file is {shown}, unlike its name"
    return File(member, place, unfold(data, actual, place, packed), format, (note,))


def _is_text(data: bytes) -> bool:
    """Whether the first bytes are UTF-8 text."""
    first = data[:_CHUNK]
    try:
        first.decode()
    except UnicodeDecodeError as error:
        # the last character may be cut
        return error.start >= len(first) - 3 > 0 and b"\0" not in first
    return bool(first) and b"\0" not in first


def unfold(data: bytes, compression: str, place: str, packed: int | None = None) -> bytes:
    """The decompressed bytes of a file; the arguments are those of `unfolded`.

    Raises:
        DataError: for a file that is damaged, cut short, or that exceeds `most_bytes`.
    """
    if not compression:
        return data
    try:
        # an empty file is invalid, but not every decompressor raises an error
        if not data:
            raise EOFError("the file is empty")
        most = most_bytes(len(data) if packed is None else min(packed, len(data)))
        stream = Capped(unfolding(io.BytesIO(data), compression), place, most)
        return b"".join(iter(stream.read, b""))
    except DAMAGE as error:
        raise fault(
            place,
            f"damaged, cut short or not a {compression} file ({type(error).__name__}: {error})",
            "fetch or pack it again",
        ) from error


def too_large(place: object, most: int) -> DataError:
    """The error for data that exceeds its limit."""
    return fault(
        place,
        f"more than {most:,} bytes when uncompressed",
        "unpack it, if you trust it, and give the folder",
    )
