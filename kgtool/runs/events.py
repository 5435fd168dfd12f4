"""Event files of TensorBoard, written without its package, which would bring grpc and protobuf.

A file is a series of records: the length of the data, a checksum of the length, the data, a
checksum of the data (TFRecord; a checksum is a masked CRC-32C). The data are a message `Event` of
protobuf: 1 time, 2 step, 3 version of the format, 5 summary, 7 start of a session.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types of protobuf
_STRING = 7  # `DT_STRING`


def _table() -> tuple[int, ...]:
    values = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        values.append(value)
    return tuple(values)


_CRC = _table()


class EventFile:
    """A new event file in a folder; each record is on its way to the disk when a method returns.

    All methods raise an OSError when the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        now = time.time()
        # The names sort by time: TensorBoard reads the files of a folder in this order.
        name = f"events.out.tfevents.{int(now)}.{time.time_ns() % 10**9:09}.{os.getpid()}"
        self._file = (folder / name).open("xb", buffering=0)
        self._event(0, _field(3, b"brain.Event:2"))

    def restart(self, step: int) -> None:
        """Make readers drop what files before this one hold from a step on."""
        self._event(step, _field(7, _field(1, 1)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        parts = [
            _field(1, _field(1, name.encode()) + _field(2, struct.pack("<f", value), _FLOAT))
            for name, value in values.items()
        ]
        self._event(step, _field(5, b"".join(parts)))

    def text(self, name: str, markdown: str) -> None:
        """Add a text, as Markdown."""
        tensor = (
            _field(1, _STRING) + _field(2, _field(2, _field(1, 1))) + _field(8, markdown.encode())
        )
        metadata = _field(1, _field(1, b"text"))
        value = _field(1, name.encode()) + _field(8, tensor) + _field(9, metadata)
        self._event(0, _field(5, _field(1, value)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _event(self, step: int, content: bytes) -> None:
        data = _field(1, struct.pack("<d", time.time()), _DOUBLE) + _field(2, step) + content
        length = struct.pack("<Q", len(data))
        record = length + _checksum(length) + data + _checksum(data)
        try:
            self._write(record)
        except OSError:
            self._file.close()
            raise

    def _write(self, record: bytes) -> None:
        if self._file.write(record) != len(record):
            raise OSError("the disk is full")


def _field(number: int, value: int | bytes, wire: int | None = None) -> bytes:
    """A field of a message: an integer, or bytes; their length comes first unless `wire` is set."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    if wire is not None:
        return _varint(number << 3 | wire) + value
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
