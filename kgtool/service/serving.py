"""The server: its socket, its address, its thread, and the limits of its connections."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from kgtool.errors import KGToolError

# A client has this many seconds to send a whole request, or to read a reply.
PATIENCE = 10
IDLE = 5  # seconds between a reply and the next request of a connection
MOST = 256  # open connections
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


class LimitedConnection(H11Protocol):
    """A connection that closes when its client is silent for too long.

    Uvicorn limits only the time between two requests. A client that opens connections and sends
    half a request on each could hold all of them forever. Here, a client must send a request,
    headers and body, within `PATIENCE` seconds, and must read a reply as fast. A new connection
    above `MOST` closes the one that waits longest for its client. If twice as many wait for the
    server, the next one gets a 503.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._dropped = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, after closing another connection if there are too many."""
        others = [
            other
            for other in self.connections
            if isinstance(other, LimitedConnection) and not other._dropped
        ]
        waiting = [(other._deadline.when(), i) for i, other in enumerate(others) if other._deadline]
        if len(others) >= MOST and waiting:
            others[min(waiting)[1]]._drop()
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._unwatch()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._watch()

    def _watch(self) -> None:
        """Set the deadline if the client's move is due, or remove it if the server's is."""
        cycle = self.cycle
        if not (self.flow.write_paused or not cycle or cycle.response_complete or cycle.more_body):
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(PATIENCE, self._drop)

    def _drop(self) -> None:
        """Close without waiting for the client to read."""
        self._dropped = True
        self.transport.abort()

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@contextmanager
def running(app: FastAPI, listener: socket.socket) -> Iterator[Event]:
    """Serve in a separate thread until the block ends; this also works in a notebook.

    Yields:
        An event: the server has ended.
    """
    config = uvicorn.Config(
        app, http=LimitedConnection, ws="none", lifespan="off", loop="asyncio", log_config=None,
        access_log=False, server_header=False, limit_concurrency=2 * MOST, timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=2, backlog=128,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ended = Event()

    def serve() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()

    Thread(target=serve, name="server").start()
    try:
        yield ended
    finally:
        server.should_exit = True
        # Not `join`: after a Ctrl-C in a first one, Python 3.11 does not wait in a second one.
        ended.wait()
