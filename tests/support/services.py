"""A run that is served on loopback, and functions that send requests."""

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
    """Serve a run on a free port."""
    desk = desk or Desk()
    with (
        listen("127.0.0.1", 0) as listener,
        running(build_app(predictor, LOOPBACK, desk), listener),
    ):
        yield listener.getsockname()[1]
    desk.close()


def reply(
    port: int,
    path: str,
    method: str = "GET",
    host: str | None = None,
    *,
    body: bytes | None = None,
    kind: str = "application/json",
    **query: Any,
) -> tuple[int, dict[str, str], bytes]:
    """Send a request, with a body of a media type; returns status, headers and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        target = path + (
            f"?{urlencode(query, doseq=True, errors='surrogatepass')}" if query else ""
        )
        headers = {"Host": host} if host else {}
        headers |= {} if body is None else {"Content-Type": kind}
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        replied = {name.lower(): value for name, value in response.getheaders()}
        return response.status, replied, response.read()
    finally:
        connection.close()


def found(port: int, path: str, **query: Any) -> Any:
    """Send a request that must succeed; returns the JSON of the response."""
    status, _, body = reply(port, path, **query)
    assert status == 200, body
    return json.loads(body)


def posted(port: int, path: str, body: Any) -> Any:
    """Send JSON that must be accepted; returns the JSON of the response."""
    status, _, content = reply(port, path, "POST", body=json.dumps(body).encode())
    assert status == 200, content
    return json.loads(content)


def refusal(port: int, path: str, **query: Any) -> tuple[int, str]:
    """Send a request that must fail; returns the status and the message."""
    status, headers, body = reply(port, path, **query)
    assert headers["content-type"] == "application/json"
    content = json.loads(body)
    assert list(content) == ["message"]
    return status, content["message"]


def raw(port: int, sent: bytes) -> bytes:
    """Send bytes; returns the response until the server closes or stops sending."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(sent)
            while part := connection.recv(1 << 16):
                received += part
        except (ConnectionError, TimeoutError):  # the server closed the connection while we sent
            pass
    return received
