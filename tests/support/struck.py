"""Commands of kgtool, one after the other, which test_hosts.py starts with torchrun.

At the first attempt, the process on host `two` is killed in the middle of the first command. This
process is never allowed to write.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from kgtool.cli import main
from kgtool.distributed import process_group
from kgtool.graph import partition
from kgtool.training.step import Updater

TWO = socket.gethostname() == "two"
_step = Updater.make_step


def step(self: Updater, rows: torch.Tensor) -> float:
    if self.step == 6 and TWO and not any("again" in word for word in sys.argv):
        os.kill(os.getpid(), signal.SIGKILL)
    return _step(self, rows)


def refuse(event: str, about: tuple[Any, ...]) -> None:
    """Make opening files for writing fail in the configuration's folder, which has the runs."""
    if event == "open" and isinstance(about[0], str | Path) and about[2] & os.O_ACCMODE:
        assert Path(sys.argv[2]).parent not in Path(about[0]).parents, about[0]


def halves(triples: torch.Tensor, num_entities: int, parts: int) -> torch.Tensor:
    """Replaces METIS, whose result may differ in the next run."""
    return torch.arange(num_entities) % parts


def commands(arguments: list[str]) -> None:
    """Run commands, which a `+` separates."""
    while arguments:
        end = arguments.index("+") if "+" in arguments else len(arguments)
        sys.argv[1:] = arguments[:end]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
        arguments = arguments[end + 1 :]


if __name__ == "__main__":
    partition.metis = halves
    if not process_group.restarted():
        Updater.make_step = step  # type: ignore[method-assign]
    if TWO:
        sys.addaudithook(refuse)
    with process_group.joined_group():
        commands(sys.argv[1:])
