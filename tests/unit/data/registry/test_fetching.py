"""Fetching: faults of a server; afterwards the cache has a complete file or no file."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kgtool.data.registry import fetching
from kgtool.data.registry.entries import Entry
from kgtool.data.registry.fetching import fetch_entry
from kgtool.errors import ConfigError, FetchError, KGToolError

BODY = bytes(range(256)) * 1200  # several pieces
HALF = len(BODY) // 2
OTHER = BODY[:-1] + b"?"
TRIES = 3

Answer = Callable[[BaseHTTPRequestHandler], object]


class Server(ThreadingHTTPServer):
    """A server on loopback that answers with a function, and counts its requests."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        asked = self.asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/kg.tar.gz"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    """Starts servers; retries do not wait, and the machine's proxies are not used."""
    monkeypatch.setattr(fetching, "WAITS", (0,) * (TRIES - 1))
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(answer: Answer) -> Server:
        server = Server(answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KGTOOL_CACHE", str(folder))
    return folder


def entry_of(address: str) -> Entry:
    return Entry(
        name="kg", address=address, sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY),
        train=1, valid=1, test=1, entities=2, relations=1,
    )  # fmt: skip


def send(
    body: bytes, *headers: tuple[str, str], length: int | None = -1, status: int = 200
) -> Answer:
    """Answers with a body; the header gives its length, another length, or None."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Send half of the body, then reset the connection."""
    send(BODY[:HALF], length=len(BODY))(handler)
    handler.wfile.flush()
    time.sleep(0.05)  # so that the half arrives before the reset
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def endless(handler: BaseHTTPRequestHandler) -> None:
    send(b"", length=None)(handler)
    while True:
        handler.wfile.write(BODY)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.5)


def stalled(handler: BaseHTTPRequestHandler) -> None:
    send(BODY[:HALF], length=len(BODY))(handler)
    handler.wfile.flush()
    time.sleep(0.5)


def redirect(address: str) -> Answer:
    return send(b"", ("Location", address), status=302)


def in_turn(*answers: Answer) -> Answer:
    """Answers each request with the next function."""
    left = list(answers)
    return lambda handler: left.pop(0)(handler)


def refusal(address: str, mirror: str | None = None) -> str:
    """The message of the FetchError, which must name the data set and the address."""
    with pytest.raises(FetchError) as caught:
        fetch_entry(entry_of(address), mirror)
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert message.startswith(f"cannot fetch kg from {mirror or address}: ")
    assert message.endswith("Remedy: check the network, or pass a mirror by --url URL.")
    return message


def files(folder: Path) -> list[str]:
    """All files in the folder, including hidden ones."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(
    "answer",
    [
        send(BODY),
        send(BODY, length=None),
        # what servers say of a .tar.gz that they take for an encoded .tar; it is no gzip here
        send(BODY, ("Content-Encoding", "gzip")),
        send(BODY, ("Content-Encoding", "x-gzip")),
    ],
)
def test_a_sound_archive_is_fetched_once(serve, cache, answer):
    server = serve(answer)
    entry = entry_of(server.address)
    assert fetch_entry(entry) == cache / "kg.tar.gz"
    assert (cache / "kg.tar.gz").read_bytes() == BODY
    assert files(cache) == ["kg.tar.gz"]
    assert fetch_entry(entry) == cache / "kg.tar.gz"
    assert server.asked == ["/kg.tar.gz"]


@pytest.mark.parametrize(
    ("answer", "tries", "problem"),
    [
        (send(BODY[:HALF], length=len(BODY)), TRIES, "IncompleteRead"),
        (send(BODY[:HALF], length=None), 1, f"only {HALF:,} of {len(BODY):,} bytes came"),
        (send(b""), 1, f"only 0 of {len(BODY):,} bytes came"),
        (reset, TRIES, "Connection reset by peer, 3 times"),
        (lambda handler: None, TRIES, "closed connection without response, 3 times"),
        (silent, TRIES, "timed out, 3 times"),
        (stalled, TRIES, "timed out, 3 times"),
        (send(b"", status=404), 1, "the server answers 404 Not Found"),
        (send(b"", status=403), 1, "the server answers 403 Forbidden"),
        (send(BODY, status=203), 1, "the server answers 203 Non-Authoritative Information"),
        (send(b"", status=503), TRIES, "the server answers 503 Service Unavailable, 3 times"),
        (send(OTHER), 1, f"SHA-256 is {hashlib.sha256(OTHER).hexdigest()}, not "),
        (send(BODY + b"?"), 1, f"more than {len(BODY):,} bytes came"),
        (endless, 1, f"more than {len(BODY):,} bytes came"),
        (send(b"", ("Location", "/kg.tar.gz"), status=302), None, "Exceeded 30 redirects"),
        (redirect("http://example.org/kg.tar.gz"), 1, "redirects to an address that is not https"),
        (redirect("ftp://example.org/kg.tar.gz"), 1, "redirects to an address that is not https"),
        (redirect("file:///etc/hostname"), 1, "redirects to an address that is not https"),
        (redirect("https://"), 1, "no host"),
    ],
)
def test_what_a_server_does_wrong_is_told_and_leaves_nothing(
    serve, cache, monkeypatch, answer, tries, problem
):
    monkeypatch.setattr(fetching, "TIMEOUT", (0.2, 0.2))
    server = serve(answer)
    assert problem.lower() in refusal(server.address).lower()
    assert tries is None or len(server.asked) == tries
    assert files(cache) == []


@pytest.mark.parametrize("drop", [reset, silent, send(b"", status=502)])
def test_a_dropped_connection_is_tried_again(serve, cache, monkeypatch, drop):
    monkeypatch.setattr(fetching, "TIMEOUT", (0.2, 0.2))
    server = serve(in_turn(drop, drop, send(BODY)))
    assert fetch_entry(entry_of(server.address)).read_bytes() == BODY
    assert len(server.asked) == 3
    assert files(cache) == ["kg.tar.gz"]


def test_the_pause_before_another_try_is_the_one_that_is_stated(serve, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(fetching, "WAITS", (1, 3))
    monkeypatch.setattr(time, "sleep", slept.append)
    refusal(serve(send(b"", status=500)).address)
    assert slept == [1, 3]


def test_without_a_network_the_reason_is_the_plain_one(serve, cache):
    server = serve(send(BODY))
    server.shutdown()
    server.server_close()
    assert f"{os.strerror(errno.ECONNREFUSED)}, 3 times" in refusal(server.address)
    assert files(cache) == []


def test_the_reason_is_not_what_the_caller_was_handling(serve):
    server = serve(lambda handler: None)
    try:
        raise ValueError("not fetched yet")
    except ValueError:
        assert "closed connection without response" in refusal(server.address)


def test_certificates_that_are_not_there_are_told(serve, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/gone.pem")
    assert "/gone.pem" in refusal("https://host.invalid/kg.tar.gz")


def test_a_redirect_is_followed(serve):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        (send(BODY) if handler.path == "/moved" else redirect("/moved"))(handler)

    server = serve(answer)
    assert fetch_entry(entry_of(server.address)).read_bytes() == BODY
    assert server.asked == ["/kg.tar.gz", "/moved"]


def test_a_redirect_to_another_service_of_this_machine_is_not_followed(serve):
    service = serve(send(BODY))
    server = serve(redirect(service.address))
    assert "redirects to an address that is not https" in refusal(server.address)
    tricky = service.address.replace("127.0.0.1:", f"127.0.0.1:{server.server_port}@127.0.0.1:")
    assert "redirects to an address that is not https" in refusal(serve(redirect(tricky)).address)
    assert service.asked == []


def test_of_a_mirror_the_checksum_decides(serve, cache):
    entry = entry_of("https://host.invalid/kg.tar.gz")
    right, wrong = serve(send(BODY)), serve(send(OTHER))
    assert "the SHA-256 is" in refusal(entry.address, mirror=wrong.address)
    assert fetch_entry(entry, right.address).read_bytes() == BODY


@pytest.mark.parametrize(
    "address",
    ["http://example.org/kg.zip", "ftp://a/kg.zip", "file:///kg.zip", "kg.zip", "https:///kg.zip",
     "http://127.0.0.1.example.org/kg.zip", "http://[::1/kg.zip"],
)  # fmt: skip
def test_an_address_that_is_not_https_is_refused(address, cache):
    with pytest.raises(ConfigError, match=r"Remedy: give one that begins with https://"):
        fetch_entry(entry_of("https://host.invalid/kg.tar.gz"), address)
    assert files(cache) == []


@pytest.mark.parametrize("damaged", [OTHER, BODY[:HALF], BODY + b"?", b""])
def test_a_damaged_file_of_the_cache_is_fetched_again(serve, cache, damaged):
    server = serve(in_turn(send(OTHER), send(BODY)))
    cache.mkdir()
    (cache / "kg.tar.gz").write_bytes(damaged)
    refusal(server.address)
    assert (cache / "kg.tar.gz").read_bytes() == damaged, "what was there stays until all is whole"
    assert fetch_entry(entry_of(server.address)).read_bytes() == BODY
    assert files(cache) == ["kg.tar.gz"]


def test_a_disk_without_room_leaves_nothing(serve, cache):
    """A limit on file sizes simulates a full disk: the write fails half-way."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, hard))
    server = serve(send(BODY))
    try:
        with pytest.raises(KGToolError) as caught:
            fetch_entry(entry_of(server.address))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(caught.value)
    assert message.startswith(f"cannot write {cache / 'kg.tar.gz'}: {os.strerror(errno.EFBIG)}. ")
    assert message.endswith("Or set KGTOOL_CACHE to another folder.")
    assert caught.value.exit_code == 1
    assert len(server.asked) == 1
    assert files(cache) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_cache_serves_what_it_has_and_takes_no_more(serve, cache):
    cache.mkdir()
    cache.chmod(0o555)
    try:
        with pytest.raises(KGToolError, match=r"kg\.tar\.gz: Permission denied\..*KGTOOL_CACHE"):
            fetch_entry(entry_of(serve(send(BODY)).address))
        assert files(cache) == []
        cache.chmod(0o755)
        (cache / "kg.tar.gz").write_bytes(BODY)
        cache.chmod(0o555)
        assert fetch_entry(entry_of("https://host.invalid/kg.tar.gz")) == cache / "kg.tar.gz"
    finally:
        cache.chmod(0o755)


def test_a_cache_that_cannot_be_made_is_told_before_anything_is_fetched(serve, cache, tmp_path):
    server = serve(send(BODY))
    cache.write_text("a file")
    with pytest.raises(
        KGToolError, match=r"is a file, not a folder.*Or set KGTOOL_CACHE to another"
    ):
        fetch_entry(entry_of(server.address))
    assert server.asked == []
    assert cache.read_text() == "a file"


def test_ctrl_c_leaves_nothing(serve, cache):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(BODY[:HALF], length=len(BODY))(handler)
        handler.wfile.flush()
        time.sleep(0.1)
        assert files(cache), "the download has not begun"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        fetch_entry(entry_of(serve(answer).address))
    assert files(cache) == []


def test_two_processes_fetch_at_once(serve, cache, tmp_path):
    both = threading.Barrier(2, timeout=60)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(BODY[:HALF], length=len(BODY))(handler)
        both.wait()  # each has half
        handler.wfile.write(BODY[HALF:])

    server = serve(answer)
    entry = entry_of(server.address)
    lines = [
        f"{key} = {value!r}"
        for key, value in entry.model_dump(exclude={"name"}, exclude_none=True).items()
    ]
    (tmp_path / "own.toml").write_text("\n".join(["[kg]", *lines]))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "kgtool", "data", "fetch", "kg"],
            env=os.environ | {"KGTOOL_REGISTRY": str(tmp_path / "own.toml")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert out == f"kg is {cache / 'kg.tar.gz'}\n"
    assert len(server.asked) == 2
    assert files(cache) == ["kg.tar.gz"]
    assert (cache / "kg.tar.gz").read_bytes() == BODY


def test_progress_counts_the_bytes(serve, monkeypatch, capsys):
    monkeypatch.setattr("kgtool.ops.runtime.progress.is_watched", lambda: True)
    fetch_entry(entry_of(serve(send(BODY)).address), progress=True)
    said = capsys.readouterr().err
    assert "kg: 100%" in said
    assert "307k/307k" in said


def test_from_https_it_goes_nowhere_but_to_https():
    """Loopback has no https server; the test checks that the session cannot use other schemes."""
    assert list(fetching._session("https://example.org/kg.zip").adapters) == ["https://"]
