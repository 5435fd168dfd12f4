"""A run that is served on loopback, and what asks it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from kgtool.inference.predictor import Predictor
from kgtool.service.app import build_app
from kgtool.service.desk import Desk
from kgtool.service.serving import LOOPBACK, listen, running


@contextmanager
def served(predictor: Predictor, desk: Desk | None = None) -> Iterator[int]:
    """Serve it on a free port."""
    desk = desk or Desk()
    with (
        listen("127.0.0.1", 0) as listener,
        running(build_app(predictor, LOOPBACK, desk), listener),
    ):
        yield listener.getsockname()[1]
    desk.close()


def reply(
    port: int, path: str, method: str = "GET", host: str | None = None, **query: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        target = path + (f"?{urlencode(query, errors='surrogatepass')}" if query else "")
        connection.request(method, target, headers={"Host": host} if host else {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def found(port: int, path: str, **query: Any) -> Any:
    """The JSON of a request that succeeds."""
    status, _, body = reply(port, path, **query)
    assert status == 200, body
    return json.loads(body)


def refusal(port: int, path: str, **query: Any) -> tuple[int, str]:
    """Status and message of a request that does not."""
    status, headers, body = reply(port, path, **query)
    assert headers["content-type"] == "application/json"
    told = json.loads(body)
    assert list(told) == ["message"]
    return status, told["message"]


def raw(port: int, sent: bytes) -> bytes:
    """What the server says to these bytes before it closes, or falls silent."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(sent)
            while part := connection.recv(1 << 16):
                said += part
        except (ConnectionError, TimeoutError):  # closed while we still send
            pass
    return said
