"""The server: its socket, its address and its thread."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import uvicorn
from fastapi import FastAPI

from kgtool.errors import KGToolError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free port.

    Raises:
        KGToolError: if it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KGToolError(
            f"cannot listen on {host}, port {port} ({reason}). Remedy: choose another --port, or "
            "end the program that uses this one; --host must be an address of this machine."
        ) from None


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def names_of(host: str, listener: socket.socket) -> list[str]:
    """The host names that requests may use, as a browser writes them."""
    names = {*LOOPBACK, _written(host)}
    if not is_loopback(listener):
        own = socket.gethostname()
        names |= {own, _written(listener.getsockname()[0])}
        with suppress(OSError):  # the name does not resolve
            names |= {_written(str(info[4][0])) for info in socket.getaddrinfo(own, None)}
    return sorted(names)


def address(host: str, listener: socket.socket) -> str:
    """The URL of the page."""
    return f"http://{_written(host)}:{listener.getsockname()[1]}/"


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def running(app: FastAPI, listener: socket.socket) -> Iterator[Thread]:
    """Serve in a separate thread until the block ends; this also works in a notebook."""
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", loop="asyncio", log_config=None,
        access_log=False, server_header=False, limit_concurrency=256, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        yield thread
    finally:
        server.should_exit = True
        thread.join()
