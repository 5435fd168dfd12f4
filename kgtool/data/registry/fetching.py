"""Fetches the archive of a data set into the cache, completely or not at all."""

from __future__ import annotations

import hashlib
import http.client
import time
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from kgtool.data.registry.cache import CACHE, cached_file, is_fetched
from kgtool.data.registry.entries import Entry, check_address
from kgtool.errors import ConfigError, FetchError, KGToolError
from kgtool.ops import Progress
from kgtool.storage.files import atomic_write

TIMEOUT = (10, 30)  # seconds to connect, and to wait for the next bytes
WAITS = (1, 3)  # seconds before each retry after a dropped connection
_PIECE = 2**16


class _DroppedError(Exception):
    """A connection failed, and a retry may succeed."""


def fetch_entry(entry: Entry, address: str | None = None, progress: bool = False) -> Path:
    """Fetch the archive of a data set into the cache if it is missing or damaged.

    Each try writes its own temporary file and renames it, so several processes may fetch at once.

    Args:
        entry: the data set.
        address: a mirror; by default the entry's own address. The checksum is checked in any case.
        progress: show a progress bar.

    Returns:
        The path of the archive.

    Raises:
        ConfigError: for an address that is not https.
        FetchError: if the address does not return the bytes that the entry describes.
        KGToolError: if the file cannot be written.
    """
    path = cached_file(entry)
    if is_fetched(entry):
        return path
    try:
        address = check_address(address or entry.address)
    except ValueError as error:
        raise ConfigError(f"{error}. Remedy: give one that begins with https://") from error
    for wait in (*WAITS, None):
        try:
            _fetch_once(entry, address, path, progress)
            return path
        except _DroppedError as error:
            if wait is None:
                raise _failure(entry, address, f"{error}, {len(WAITS) + 1} times") from error
            time.sleep(wait)
    raise AssertionError  # the last try returns or raises


def _fetch_once(entry: Entry, address: str, path: Path, progress: bool) -> None:
    bar = Progress(entry.size, entry.name, "B", shown=progress, unit_scale=True)
    try:
        with bar, _session(address) as session, atomic_write(path, "wb") as file:
            _download(session, entry, address, file, bar)
    except FetchError:
        raise
    except KGToolError as error:
        raise KGToolError(f"{error} Or set {CACHE} to another folder.") from error


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
    session: requests.Session, entry: Entry, address: str, file: BinaryIO, bar: Progress
) -> None:
    """Write the bytes of an address into a file, and check their size and checksum."""
    size, digest = 0, hashlib.sha256()
    try:
        with session.get(address, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.ok:
                problem = f"the server answers {response.status_code} {response.reason}"
                if response.status_code >= 500:
                    raise _DroppedError(problem)
                raise _failure(entry, address, problem)
            # Not decoded: servers often declare a .tar.gz as a gzip-encoded .tar.
            for piece in response.raw.stream(_PIECE, decode_content=False):
                size += len(piece)
                if size > entry.size:
                    raise _failure(entry, address, f"more than {entry.size:,} bytes came")
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
    if size < entry.size:
        raise _failure(entry, address, f"only {size:,} of {entry.size:,} bytes came")
    if digest.hexdigest() != entry.sha256:
        problem = f"the SHA-256 is {digest.hexdigest()}, not {entry.sha256}"
        raise _failure(entry, address, problem)


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
