"""The server: where it listens, and until when."""

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
    """A socket that listens; a port of 0 is any that is free.

    Raises:
        KGToolError: when it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KGToolError(
            f"cannot listen on {host}, port {port} ({reason}). Remedy: another --port, or end "
            "what uses this one; for another --host, check that it is this machine's."
        ) from None


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def names_of(host: str, listener: socket.socket) -> list[str]:
    """The names under which it may be asked, as a browser writes them."""
    names = {*LOOPBACK, _written(host)}
    if not is_loopback(listener):
        own = socket.gethostname()
        names |= {own, _written(listener.getsockname()[0])}
        with suppress(OSError):  # where the name resolves to nothing
            names |= {_written(str(found[4][0])) for found in socket.getaddrinfo(own, None)}
    return sorted(names)


def address(host: str, listener: socket.socket) -> str:
    """What to type into a browser."""
    return f"http://{_written(host)}:{listener.getsockname()[1]}/"


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def running(app: FastAPI, listener: socket.socket) -> Iterator[Thread]:
    """Serve in a thread of its own, beside a notebook's loop too, until the block ends."""
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
