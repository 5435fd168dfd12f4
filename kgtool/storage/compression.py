"""A file of triples in memory, unfolded where it was compressed."""

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
# Triples are packed to a tenth or a thirtieth. What unfolds far beyond that is made to fill memory.
MAX_RATIO = 200
ALWAYS = 64 * 2**20  # bytes that any file may unfold to
_CHUNK = 2**20


def most_bytes(packed: int) -> int:
    """How far a file of so many bytes may unfold."""
    return min(MAX_BYTES, max(ALWAYS, MAX_RATIO * packed))


@dataclass(frozen=True)
class File:
    """A file of triples.

    Args:
        member: the path of the file inside its folder or archive.
        place: the file as errors name it, such as `data/kg/train.txt` or `kg.zip:train.txt`.
        data: the whole file, unfolded.
        format: a key of `kgtool.data.loaders.reading.FORMATS`.
    """

    member: str
    place: str
    data: bytes
    format: str = "tsv"


class Capped(io.RawIOBase):
    """A stream that unfolds to at most so many bytes."""

    def __init__(self, stream: IO[bytes], place: object, most: int) -> None:
        """Reads from a stream; `place` names it in errors."""
        self._stream = stream
        self._place = place
        self._most = self._left = most

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, a megabyte if all are asked for; empty at the end.

        Raises:
            DataError: for more than it may unfold to.
        """
        data = self._stream.read(_CHUNK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise too_large(self._place, self._most)
        return bytes(data)


def unfolding(stream: IO[bytes], compression: str) -> IO[bytes]:
    """The stream of what is compressed in another; damage shows when it is read."""
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": lambda packed: pa.CompressedInputStream(packed, "zstd"),
    }
    opened: IO[bytes] = openers[compression](stream)
    return opened


# What the readers of compressed files raise on damaged bytes.
DAMAGE = (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error)


def unfold(data: bytes, compression: str, place: str, packed: int | None = None) -> bytes:
    """The bytes of a compressed file.

    Args:
        data: the file.
        compression: one of `.gz`, `.bz2`, `.xz`, `.zst`, or nothing.
        place: the file, for errors.
        packed: bytes of the archive that it lies in, which may be packed twice.

    Raises:
        DataError: for a file that is damaged, cut short, or that unfolds beyond `most_bytes`.
    """
    if not compression:
        return data
    try:
        # an empty file is none of these, which not every reader says
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
    """The error for what unfolds too far."""
    return fault(
        place,
        f"more than {most:,} bytes when uncompressed",
        "unpack it, if you trust it, and give the folder",
    )
