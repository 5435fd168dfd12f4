"""The log file of a run: one complete line per event."""

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
        self._begin = b"\n" if cut else b""  # ends a line that a crash left incomplete

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; errors are ignored, so that a full disk does not end hours of training."""
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
    """A logger that appends to a file only; it also logs an error that ends the block.

    Raises:
        KGToolError: if the file cannot be opened. Later write errors, as on a full disk, are
            ignored.
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
