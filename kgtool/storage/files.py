"""Atomic writes: a file is written under a temporary name, then renamed into place."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from kgtool.errors import ConfigError, KGToolError, RunError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@overload
def atomic_write(
    path: str | Path, mode: Literal["w"] = "w", before: Path | None = None
) -> AbstractContextManager[TextIO]: ...
@overload
def atomic_write(
    path: str | Path, mode: Literal["wb"], before: Path | None = None
) -> AbstractContextManager[BinaryIO]: ...
@contextmanager
def atomic_write(path: str | Path, mode: str = "w", before: Path | None = None) -> Iterator[Any]:
    """Open a file that replaces `path` only when it is complete.

    The `with` block writes to a hidden temporary file in the folder of `path`; the folder is
    created if it is missing. At the end of the block the file is flushed to the disk and renamed to
    `path`. If the block ends early, even by Ctrl-C, the temporary file is removed and `path` stays
    unchanged. A killed process leaves the temporary file; see `remove_leftovers`. If `path` is a
    link, its target is replaced. The file gets the permissions of a new file.

    Args:
        path: the file to write.
        mode: `"w"` for UTF-8 text with `\\n` line ends; `"wb"` for bytes.
        before: the new name of the replaced file, in the same folder. It is renamed when the new
            file is complete, so one of the two names always belongs to a complete file.

    Raises:
        KGToolError: if the file cannot be written: no room, no permission, not a regular file. An
            OSError that the block itself raises passes unchanged.
        ValueError: for any other mode.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"no mode {mode!r}; the modes are w, wb")
    path = Path(path)
    with write_errors(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise KGToolError(f"cannot write {path}: it is {kind}. Remedy: choose another name.")
        target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with write_errors(path):
            file = _open(temporary, path, mode)
        with file:
            yield file
            with write_errors(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
        with write_errors(path):
            if before is not None and target.exists():
                target.replace(before)
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):  # it does not exist after the rename
            temporary.unlink()


OVERWRITE = "pass --overwrite (in Python overwrite=True)"


def refuse_existing(
    paths: Iterable[str | Path], overwrite: bool, sources: Iterable[str | Path | None] = ()
) -> None:
    """Check, before long work, that a command may write its files.

    Args:
        paths: the files that the caller names.
        overwrite: whether they may replace files of these names.
        sources: files that the command reads; they are never replaced.

    Raises:
        ConfigError: if a path exists and may not be replaced.
    """
    real = {os.path.realpath(source) for source in sources if source is not None}
    for path in map(Path, paths):
        if os.path.realpath(path) in real:
            raise ConfigError(
                f"{path} is an input, and the output would replace it. Remedy: choose another name."
            )
        if path.is_file() and not overwrite:
            raise ConfigError(
                f"{path} exists already. Remedy: choose another name, or {OVERWRITE}."
            )


@contextmanager
def atomic_folder(
    path: str | Path,
    overwrites: Callable[[str], bool] | None = None,
    sources: Iterable[str | Path] = (),
) -> Iterator[Path]:
    """A new folder that gets the name `path` only when the `with` block is done.

    The block fills a hidden temporary folder next to `path`. If the block ends early, even by
    Ctrl-C, the temporary folder is removed. An empty folder at `path` is replaced.

    Args:
        path: the new folder.
        overwrites: also replace a folder at `path` if this is true for the names of all its files.
        sources: files and folders that the block reads; a folder that holds one is never replaced.

    Raises:
        ConfigError: if `path` exists and may not be replaced.
        KGToolError: if the folder cannot be created.
    """
    path = Path(path)
    with write_errors(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            _check_replaceable(path, target, overwrites, sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        temporary.mkdir()
    try:
        yield temporary
        with write_errors(path):
            if target.is_dir() and any(target.iterdir()):
                old = _temporary(target)
                target.replace(old)
                temporary.replace(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # it does not exist after the rename


def _check_replaceable(
    path: Path,
    target: Path,
    overwrites: Callable[[str], bool] | None,
    sources: Iterable[str | Path],
) -> None:
    """Raise a ConfigError if a folder that is not empty may not be replaced."""
    if overwrites is None:
        raise ConfigError(f"{path} exists already. Remedy: choose another folder, or {OVERWRITE}.")
    if any(Path(os.path.realpath(source)).is_relative_to(target) for source in sources):
        raise ConfigError(
            f"{path} holds the input, and the output would replace it. Remedy: choose another "
            "folder."
        )
    if not target.is_dir():
        raise ConfigError(f"{path} is a file. Remedy: choose another folder.")
    other = next((e.name for e in sorted(target.iterdir()) if not overwrites(e.name)), None)
    if other is not None:
        raise ConfigError(
            f"{path} holds {other}, which is not replaced. Remedy: choose another folder."
        )


def _temporary(target: Path) -> Path:
    # Shortened, so that the temporary name is not too long for the file system.
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")


def is_leftover(name: str, of: Collection[str]) -> bool:
    """Whether `name` is a temporary name of `atomic_write` for one of the files `of`."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{16}\.tmp", name, re.DOTALL)
    return match is not None and match[1] in {whole[:40] for whole in of}


def remove_leftovers(folder: Path, of: Collection[str]) -> None:
    """Remove the temporary files that killed processes left; no process may write the files now.

    Args:
        folder: the folder.
        of: names of the files that were being written.
    """
    for path in folder.iterdir():
        if is_leftover(path.name, of):
            with write_errors(path):
                path.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder for the `with` block.

    The lock writes no file, and the system releases it when the process ends in any way. A file
    system without locks is not locked.

    Raises:
        RunError: if another process or thread holds the lock.
    """
    with write_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is training {folder}. Remedy: wait until it ends, or stop it."
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Flush the names of a folder's files to the disk."""
    with suppress(OSError):  # some network file systems do not support it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` to `path` as JSON, atomically, indented by 2, with keys in their order.

    Raises:
        KGToolError: if the file cannot be written.
        TypeError, ValueError: for data that JSON cannot represent, including NaN and infinity. The
            file then stays unchanged.
    """
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(text + "\n")


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file of a run for reading bytes in the `with` block.

    Raises:
        RunError: if the file is missing, cannot be read, or is not a regular file: reading a pipe
            or a device might wait for ever.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path}: not a regular file. Remedy: restore the file.")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror}. Remedy: check the name of the run folder."
        ) from error


def sha256_of(file: BinaryIO, before: bytes = b"") -> str:
    """The SHA-256 of the bytes `before` and the rest of a file, which is read in pieces."""
    digest = hashlib.sha256(before)
    while piece := file.read(2**20):
        digest.update(piece)
    return digest.hexdigest()


def read_regular(path: str | Path) -> bytes:
    """The bytes of a file of a run; raises the errors of `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_json(path: str | Path) -> Any:
    """The data of a JSON file of a run.

    Raises:
        RunError: if the file is missing, cannot be read, or is not JSON in UTF-8.
    """
    path = Path(path)
    data = read_regular(path)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, reason = 1 + data.count(b"\n", 0, error.start), "not UTF-8"
    except json.JSONDecodeError as error:
        line, reason = error.lineno, error.msg
    except (ValueError, RecursionError) as error:  # a number too long, lists too deep
        line, reason = 1, str(error)
    raise RunError(
        f"{path}, line {line}: damaged JSON ({reason}). Remedy: restore the file or train again."
    )


class _NewFile(io.FileIO):
    """A new file with the permissions of the umask; its errors name `path`."""

    def __init__(self, temporary: Path, path: Path) -> None:
        super().__init__(temporary, "x")
        self._path = path

    def write(self, data: ReadableBuffer, /) -> int:
        with write_errors(self._path):
            return super().write(data)


def _open(temporary: Path, path: Path, mode: str) -> IO[Any]:
    binary = io.BufferedWriter(_NewFile(temporary, path))
    return binary if mode == "wb" else io.TextIOWrapper(binary, encoding="utf-8", newline="\n")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError on writing into a KGToolError that names `path`, not the temporary file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = f"a part of {path.parent} is a file, not a folder"
        else:
            reason = error.strerror or str(error)
        raise KGToolError(
            f"cannot write {path}: {reason}. Remedy: choose a place with room and write permission."
        ) from error
