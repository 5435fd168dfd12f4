"""The log of a run: a line a thing that happened, in whole lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kgtool.errors import Interrupted
from kgtool.storage.files import write_errors


class _Lines(logging.Handler):
    """Appends each record to a file as a whole line, or, on a full disk, not at all."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        with write_errors(path):
            self._file = path.open("ab", buffering=0)
            cut = path.stat().st_size and not path.read_bytes().endswith(b"\n")
        self._begin = b"\n" if cut else b""  # a line that a machine which stopped left half

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; no work of hours ends because its log cannot go on."""
        line = self._begin + (self.format(record) + "\n").encode()
        with suppress(OSError):
            size = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) == len(line):
                self._begin = b""
            else:
                self._file.truncate(size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def log_to(path: Path) -> Iterator[logging.Logger]:
    """A logger that appends to a file, and to nothing else; told of an error, it says so.

    Raises:
        KGToolError: when the file cannot be opened. One that cannot be written to later, as the
            disk is full, ends nothing.
    """
    handler = _Lines(path)
    log = logging.Logger("kgtool.train", logging.INFO)
    log.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        if not isinstance(error, Interrupted):
            log.error("failed: %s: %s", type(error).__name__, error)
        raise
    finally:
        handler.close()
