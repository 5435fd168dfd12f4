"""Files that are whole or not there: written on a temporary name, then renamed into place."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
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
    """Open a file that takes the place of `path` only once it is whole.

    The `with` block writes to a hidden temporary file in the folder of `path`, which is made when
    it is missing. At the end of the block the file is flushed to the disk and renamed over `path`.
    Whatever ends the block early, Ctrl-C included, removes it and leaves `path` as it was; a killed
    process leaves it, see `remove_leftovers`. A link is followed: the file that it points to is
    replaced. Permissions are those of a new file.

    Args:
        path: the file to write.
        mode: `"w"` for text, in UTF-8 with `\\n` line ends everywhere; `"wb"` for bytes.
        before: where the file that `path` was is kept, in the same folder. It is renamed once the
            new one is whole: at every moment one of both names is that of a whole file.

    Raises:
        KGToolError: when the file cannot be written: no room, no permission, not a regular file.
            An OSError of the block's own, say from reading another file, passes unchanged.
        ValueError: for any other mode.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"no mode {mode!r}; the modes are w, wb")
    path = Path(path)
    with told_of(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise KGToolError(f"cannot write {path}: it is {kind}. Choose another name.")
        target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with told_of(path):
            file = _open(temporary, path, mode)
        with file:
            yield file
            with told_of(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
        with told_of(path):
            if before is not None and target.exists():
                target.replace(before)
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):  # after the rename there is none left
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` only once the `with` block is done.

    The block fills a hidden temporary folder beside `path`. Whatever ends it early, Ctrl-C
    included, removes that, and `path` is not there. An empty folder at `path` is replaced.

    Raises:
        ConfigError: when `path` is there and is no empty folder.
        KGToolError: when the folder cannot be made.
    """
    path = Path(path)
    with told_of(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise ConfigError(
                f"{path} exists already. Remedy: name another folder, or move that away first."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        temporary.mkdir()
    try:
        yield temporary
        with told_of(path):
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after the rename there is none left


def _temporary(target: Path) -> Path:
    # Cut short, so that the temporary name is legal wherever the name is.
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")


def is_leftover(name: str, of: Collection[str]) -> bool:
    """Whether a file's name is one under which `atomic_write` begins a file of one of these."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{16}\.tmp", name, re.DOTALL)
    return found is not None and found[1] in {whole[:40] for whole in of}


def remove_leftovers(folder: Path, of: Collection[str]) -> None:
    """Remove what killed processes had begun to write of these files; nobody may write them now."""
    for path in folder.iterdir():
        if is_leftover(path.name, of):
            with told_of(path):
                path.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no other process that asks for it holds it too.

    The system lets go of it when the process ends, however it ends; nothing is written. Where a
    file system has no locks, it is not asked.

    Raises:
        RunError: when another process, or thread, holds it.
    """
    with told_of(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder} is being trained by another process. Remedy: let it end, or stop it."
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Have the disk know the names of a folder's files, as it knows what is in them."""
    with suppress(OSError):  # some network file systems do not know how
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` to `path` as JSON, atomically: indented by 2, keys in the order they have.

    Raises:
        KGToolError: when the file cannot be written.
        TypeError, ValueError: for data that JSON cannot hold, NaN and infinity included. The file
            is then untouched.
    """
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(text + "\n")


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that belongs to a run, to read its bytes in the `with` block.

    Raises:
        RunError: when the file is missing, cannot be read, or is no regular file: for what a pipe
            or a device holds, one may wait for ever.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path}: not a regular file. Restore the file.")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror}. Check the name of the run folder."
        ) from error


def sha256_of(file: BinaryIO, before: bytes = b"") -> str:
    """Of what is left of a file, which is read a piece at a time, and of what was before it."""
    digest = hashlib.sha256(before)
    while piece := file.read(2**20):
        digest.update(piece)
    return digest.hexdigest()


def read_regular(path: str | Path) -> bytes:
    """The bytes of a file that belongs to a run; it raises what `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def read_json(path: str | Path) -> Any:
    """The data of a JSON file that belongs to a run.

    Raises:
        RunError: when the file is missing, cannot be read, or is not JSON in UTF-8.
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
        f"{path}, line {line}: damaged JSON ({reason}). Restore the file or run the training again."
    )


class _NewFile(io.FileIO):
    """A new file, with the permissions that the umask gives, whose errors name `path`."""

    def __init__(self, temporary: Path, path: Path) -> None:
        super().__init__(temporary, "x")
        self._path = path

    def write(self, data: ReadableBuffer, /) -> int:
        with told_of(self._path):
            return super().write(data)


def _open(temporary: Path, path: Path, mode: str) -> IO[Any]:
    binary = io.BufferedWriter(_NewFile(temporary, path))
    return binary if mode == "wb" else io.TextIOWrapper(binary, encoding="utf-8", newline="\n")


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turn an OSError of writing into a KGToolError that names `path`, not the temporary file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = f"a part of {path.parent} is a file, not a folder"
        else:
            reason = error.strerror or str(error)
        raise KGToolError(
            f"cannot write {path}: {reason}. Choose a place with room that you may write to."
        ) from error
