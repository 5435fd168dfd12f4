"""Two hosts with their own names and addresses on this machine, for tests over a network.

Each is a set of Linux namespaces (network, name, mounts, processes). A process holds them. When it
ends, the system removes them with everything that runs in them. It ends with the tests, also if
they crash. The machine itself is not changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.places import ROOT

ADDRESS = {"one": "10.77.0.1", "two": "10.77.0.2"}
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_ENVIRONMENT = os.environ | {"PATH": _PATH}
_HOLD = """
set -e
hostname $1
mount --bind $2 /etc/hosts
ip link set lo up
echo there
exec cat
"""


@dataclass(frozen=True)
class Host:
    """A host, given by a process that runs there."""

    pid: int

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs `arguments` on the host, in the folder of the tests."""
        entered = _enter(self.pid, "user", "net", "uts", "mount", "pid")
        return [*entered, "env", f"--chdir={ROOT}", *map(str, arguments)]


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """The hosts `one` and `two`, in the `with` block; skips the test if they cannot be made.

    As on many systems, the name of the other host has its address, and the own name has a loopback
    address.

    Args:
        folder: the folder for the hosts files.
    """
    for tool in ("unshare", "nsenter", "ip", "hostname"):
        if shutil.which(tool, path=_PATH) is None:
            pytest.skip(f"{tool}, which makes the hosts, is not installed")
    near = _host("one", folder, ["unshare", "--map-root-user"])
    with near as one, _host("two", folder, [*_enter(one.pid, "user"), "unshare"]) as two:
        wire = f"ip link add wire type veth peer name wire netns {two.pid}"
        _do([*_enter(one.pid, "user", "net"), *wire.split()])
        for name, host in (("one", one), ("two", two)):
            _do(host.command("ip", "address", "add", f"{ADDRESS[name]}/24", "dev", "wire"))
            _do(host.command("ip", "link", "set", "wire", "up"))
        yield one, two


@contextmanager
def _host(name: str, folder: Path, unshare: list[str]) -> Iterator[Host]:
    """A host without a network."""
    (other,) = ADDRESS.keys() - {name}
    hosts = folder / f"{name}.hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n{ADDRESS[other]} {other}\n")
    command = [
        *unshare, "--net", "--uts", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child",
        "sh", "-c", _HOLD, "sh", name, str(hosts),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=_ENVIRONMENT,
    ) as holder:  # fmt: skip
        assert holder.stdin
        assert holder.stdout
        assert holder.stderr
        if holder.stdout.readline() != "there\n":
            pytest.skip(f"cannot make a host: {holder.stderr.read().strip()}")
        try:
            child = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
            yield Host(int(child))
        finally:
            holder.stdin.close()


def _enter(pid: int, *kinds: str) -> list[str]:
    """The command prefix that runs a command in the namespaces of a process."""
    spaces = [f"--{kind}" for kind in kinds]
    return ["nsenter", "--target", str(pid), "--preserve-credentials", *spaces]


def _do(command: list[str]) -> None:
    subprocess.run(command, check=True, env=_ENVIRONMENT)
