"""Fetches a data set into the cache, completely or not at all.

Where the registry has the SHA-256 of an archive, the archive must have it. Otherwise the first
fetch pins what came: a later fetch must get the same bytes. What is not an archive of the usual
kind is converted, and loaded once, so that loaders can read all that the cache holds.
"""

from __future__ import annotations

import hashlib
import http.client
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import load_dataset
from kgtool.data.registry.cache import (
    CACHE,
    cached_file,
    is_fetched,
    needs_record,
    read_record,
    record_file,
)
from kgtool.data.registry.entries import Entry, Source, check_address
from kgtool.data.registry.layouts import LAYOUTS
from kgtool.errors import ConfigError, DataError, FetchError, KGToolError, KGToolWarning
from kgtool.ops import Progress
from kgtool.storage.files import atomic_write, sha256_of, write_errors, write_json

TIMEOUT = (10, 30)  # seconds to connect, and to wait for the next bytes
WAITS = (1, 3)  # seconds before each retry after a dropped connection
_PIECE = 2**16
_MOST = 2**35  # bytes of a file whose size is not known


class _DroppedError(Exception):
    """A connection failed, and a retry may succeed."""


def fetch_entry(entry: Entry, address: str | None = None, progress: bool = False) -> Path:
    """Fetch a data set into the cache if it is missing or damaged.

    Each try writes its own temporary files and renames them: several processes may fetch at once.

    Args:
        entry: the data set.
        address: a mirror; by default the entry's own address. Known checksums are checked in any
            case.
        progress: show a progress bar.

    Returns:
        The path of the archive, file or folder.

    Warns:
        KGToolWarning: if the counts of a data set without a known checksum are not the entry's.

    Raises:
        ConfigError: for an address that is not https.
        FetchError: if the address does not return the bytes that the entry describes, or that an
            earlier fetch got, or if they are not a data set.
        KGToolError: if a file cannot be written.
    """
    path = cached_file(entry)
    if is_fetched(entry):
        return path
    try:
        address = check_address(address or entry.address)
    except ValueError as error:
        raise ConfigError(f"{error}. Remedy: give one that begins with https://") from error
    if needs_record(entry):
        _fetch_unknown(entry, address, path, progress)
    else:
        _fetch(entry, entry.sources(address)[0], path, progress)
    return path


def _fetch_unknown(entry: Entry, address: str, path: Path, progress: bool) -> None:
    """Fetch what the registry has no checksum of, or what must be converted, and keep a record."""
    record = read_record(entry)
    pins = record.sources if record else {}
    sums: dict[str, str] = {}
    with _scratch(path.parent) as scratch:
        fetched, made = scratch / "fetched", scratch / path.name
        for source in entry.sources(address):
            place = fetched / source.name if entry.is_folder else made
            pin = "" if source.sha256 else pins.get(source.name, "")
            sums[source.name] = _fetch(entry, source, place, progress, pin)
        try:
            if entry.layout:
                LAYOUTS[entry.layout](fetched, made)
            elif entry.files:
                fetched.rename(made)
            _check_counts(entry, made)
        except DataError as error:
            reason = str(error).replace(f"{scratch}/", "").partition(" Remedy:")[0].rstrip(".")
            raise _failure(entry, address, f"what came is not a data set: {reason}") from error
        files = sorted(file for file in made.rglob("*") if file.is_file()) or [made]
        found = {}
        for file in files:
            name = "" if file == made else file.relative_to(made).as_posix()
            with file.open("rb") as content:
                found[name] = [file.stat().st_size, sha256_of(content)]
        with write_errors(path):
            with suppress(FileNotFoundError):
                path.rename(scratch / "damaged")
            made.replace(path)
        write_json(record_file(entry), {"sources": sums, "files": found})


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A temporary folder in the cache, removed after the `with` block."""
    with write_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(
            prefix=".fetch-", dir=cache, ignore_cleanup_errors=True
        )
    with folder as name:
        yield Path(name)


def _check_counts(entry: Entry, made: Path) -> None:
    """Warn if the counts of what came are not the entry's.

    Raises:
        DataError: if it cannot be loaded.
    """
    data = load_dataset(made)
    splits = {split: len(data.split(split)) for split in SPLITS}
    found = {**splits, "triples": sum(splits.values()), "entities": data.num_entities}
    found["relations"] = data.num_relations
    odd = [
        f"{count:,} {name} in place of {known:,}"
        for name, count in found.items()
        if (known := getattr(entry, name)) not in (None, count)
    ]
    if odd:
        warnings.warn(
            f"{entry.name} has {', '.join(odd)}: the source may have changed. To fetch it again, "
            f"remove {cached_file(entry)} and {record_file(entry)}.",
            KGToolWarning,
            stacklevel=4,
        )


def _fetch(entry: Entry, source: Source, path: Path, progress: bool, pin: str = "") -> str:
    """Fetch a file with some retries, and return its SHA-256.

    Args:
        entry: the data set.
        source: the file.
        path: where to write it.
        progress: show a progress bar.
        pin: the SHA-256 that an earlier fetch got, if any.
    """
    for wait in (*WAITS, None):
        try:
            return _fetch_once(entry, source, path, progress, pin)
        except _DroppedError as error:
            if wait is None:
                problem = f"{error}, {len(WAITS) + 1} times"
                raise _failure(entry, source.address, problem) from error
            time.sleep(wait)
    raise AssertionError  # the last try returns or raises


def _fetch_once(entry: Entry, source: Source, path: Path, progress: bool, pin: str) -> str:
    size = None if entry.files else entry.size
    name = f"{entry.name} {source.name}" if entry.files else entry.name
    bar = Progress(size or 0, name, "B", shown=progress, unit_scale=True)
    # without a checksum, a size is what somebody measured once
    exact = size if source.sha256 else None
    try:
        with bar, _session(source.address) as session, atomic_write(path, "wb") as file:
            digest = _download(session, entry, (source.address, exact), file, bar)
            for wanted, whose in ((source.sha256, ""), (pin, _PINNED)):
                if wanted and digest != wanted:
                    problem = f"the SHA-256 is {digest}, not {wanted}"
                    whose = whose and whose.format(record_file(entry))
                    raise _failure(entry, source.address, problem + whose)
        return digest
    except FetchError:
        raise
    except KGToolError as error:
        raise KGToolError(f"{error} Or set {CACHE} to another folder.") from error


_PINNED = ", as the first fetch got it (to accept the new bytes, remove {})"


def _session(address: str) -> requests.Session:
    """A session for https addresses only, or for the given address if it is on this machine."""
    session = requests.Session()
    session.adapters.clear()
    session.mount("https://", HTTPAdapter())
    parts = urlsplit(address)
    if parts.scheme == "http":
        # with the slash: without it, the prefix would match addresses of other hosts too
        session.mount(f"http://{parts.netloc}/", HTTPAdapter())
    # Ask for the archive itself, without another compression.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _download(
    session: requests.Session,
    entry: Entry,
    source: tuple[str, int | None],
    file: BinaryIO,
    bar: Progress,
) -> str:
    """Write the bytes of an address into a file, and return their SHA-256.

    Args:
        session: of `_session`.
        entry: the data set, for errors.
        source: the address, and the size if it is known.
        file: the file to write.
        bar: shows the progress.
    """
    address, exact = source
    size, digest = 0, hashlib.sha256()
    try:
        with session.get(address, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.ok:
                problem = f"the server answers {response.status_code} {response.reason}"
                if response.status_code >= 500:
                    raise _DroppedError(problem)
                raise _failure(entry, address, problem)
            length = response.headers.get("Content-Length", "")
            if not bar.total and length.isdecimal():
                bar.expect(int(length))
            # Not decoded: servers often declare a .tar.gz as a gzip-encoded .tar.
            for piece in response.raw.stream(_PIECE, decode_content=False):
                size += len(piece)
                if size > (exact or _MOST):
                    raise _failure(entry, address, f"more than {exact or _MOST:,} bytes came")
                digest.update(piece)
                file.write(piece)
                bar.update(len(piece))
    except requests.exceptions.SSLError as error:
        raise _failure(entry, address, _innermost(error)) from error
    except (
        requests.ConnectionError,
        requests.Timeout,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.TimeoutError,
    ) as error:
        raise _DroppedError(_innermost(error)) from error
    except requests.exceptions.InvalidSchema as error:
        raise _failure(entry, address, "it redirects to an address that is not https") from error
    except (OSError, urllib3.exceptions.HTTPError) as error:  # requests raises OSErrors
        raise _failure(entry, address, str(error)) from error
    if exact is not None and size < exact:
        raise _failure(entry, address, f"only {size:,} of {exact:,} bytes came")
    if not size:
        raise _failure(entry, address, "no bytes came")
    return digest.hexdigest()


def _failure(entry: Entry, address: str, problem: str) -> FetchError:
    return FetchError(
        f"cannot fetch {entry.name} from {address}: {problem}. Nothing was saved. Remedy: check "
        "the network, or pass a mirror by --url URL."
    )


def _innermost(error: BaseException) -> str:
    """The message of the innermost connection error, which is the clearest."""
    kinds = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
    # An error of another kind is one that the caller was handling.
    while isinstance(inner := error.__cause__ or error.__context__, kinds):
        error = inner
    return str(getattr(error, "strerror", None) or error)
