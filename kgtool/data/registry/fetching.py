"""Fetches the archive of a data set into the cache, whole or not at all."""

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
from tqdm.auto import tqdm

from kgtool.data.registry.cache import CACHE, cached_file, is_fetched
from kgtool.data.registry.entries import Entry, check_address
from kgtool.errors import ConfigError, FetchError, KGToolError
from kgtool.storage.files import atomic_write

TIMEOUT = (10, 30)  # seconds for a connection, and for the next bytes
WAITS = (1, 3)  # seconds before each further try, after a connection that dropped
_PIECE = 2**16


class _DroppedError(Exception):
    """A connection that failed in a way that may pass."""


def fetch_entry(entry: Entry, address: str | None = None, progress: bool = False) -> Path:
    """The archive of a data set, fetched into the cache if it is not there or is damaged.

    Each try writes a file of its own and renames it, so that several processes may fetch at once.

    Args:
        entry: the data set.
        address: a mirror; the entry's own address by default. The checksum decides either way.
        progress: show a progress bar.

    Returns:
        The path of the archive.

    Raises:
        ConfigError: for an address that is not https.
        FetchError: when the address does not give the bytes that the entry describes.
        KGToolError: when the file cannot be written.
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
    bar = tqdm(total=entry.size, desc=entry.name, unit="B", unit_scale=True, disable=not progress)
    try:
        with bar, _session(address) as session, atomic_write(path, "wb") as file:
            _download(session, entry, address, file, bar)
    except FetchError:
        raise
    except KGToolError as error:
        raise KGToolError(f"{error} {CACHE} names another folder.") from error


def _session(address: str) -> requests.Session:
    """A session that goes nowhere but to https and, if it is on this machine, to the address."""
    session = requests.Session()
    session.adapters.clear()
    session.mount("https://", HTTPAdapter())
    parts = urlsplit(address)
    if parts.scheme == "http":
        # up to the slash: a prefix without it would also begin other hosts' addresses
        session.mount(f"http://{parts.netloc}/", HTTPAdapter())
    # The archive itself is wanted, not a packed form of it.
    session.headers["Accept-Encoding"] = "identity"
    return session


def _download(
    session: requests.Session, entry: Entry, address: str, file: BinaryIO, bar: tqdm[None]
) -> None:
    """Write the bytes of an address into a file, if they are the entry's."""
    size, digest = 0, hashlib.sha256()
    try:
        with session.get(address, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.ok:
                problem = f"the server says {response.status_code} {response.reason}"
                if response.status_code >= 500:
                    raise _DroppedError(problem)
                raise _failure(entry, address, problem)
            # Not decoded: servers often call a .tar.gz a gzip encoding of a .tar.
            for piece in response.raw.stream(_PIECE, decode_content=False):
                size += len(piece)
                if size > entry.size:
                    raise _failure(entry, address, f"more than the {entry.size:,} bytes it has")
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
        raise _failure(entry, address, "it leads to an address that is not https") from error
    except (OSError, urllib3.exceptions.HTTPError) as error:  # all of requests' are OSErrors
        raise _failure(entry, address, str(error)) from error
    if size < entry.size:
        raise _failure(entry, address, f"{size:,} bytes where it has {entry.size:,}")
    if digest.hexdigest() != entry.sha256:
        problem = f"other bytes, of SHA-256 {digest.hexdigest()}, not {entry.sha256}"
        raise _failure(entry, address, problem)


def _failure(entry: Entry, address: str, problem: str) -> FetchError:
    return FetchError(
        f"cannot fetch {entry.name} from {address}: {problem}. Remedy: check the network, or name "
        "a mirror by --address URL; nothing was kept."
    )


def _innermost(error: BaseException) -> str:
    """The words of the connection's error at the bottom, which are the plainest."""
    kinds = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
    # Of another kind is what the caller was handling, such as that the data are not fetched yet.
    while isinstance(inner := error.__cause__ or error.__context__, kinds):
        error = inner
    return str(getattr(error, "strerror", None) or error)
