"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import kgtool.ops.runtime.dgl  # noqa: F401  # lets tests import DGL 2 themselves
from tests.support.places import ROOT

if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a process that tests
    torch.set_num_threads(1)

# New and more examples each time; a failure prints how to reproduce it.
settings.register_profile("nightly", max_examples=1000, deadline=None, print_blob=True)


@pytest.fixture(scope="session")
def benchmark_archive() -> Callable[[str], Path]:
    """Finds a public benchmark, such as `benchmark_archive("FB15k-237.tar.gz")`, or skips.

    The archives are not part of the project. The environment variable KGTOOL_BENCHMARKS names
    their folder; the default is ../shared/datasets, next to the repository.
    """
    named = os.environ.get("KGTOOL_BENCHMARKS")
    folder = Path(named) if named else ROOT.parent / "shared" / "datasets"

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} in {folder}; name its folder by KGTOOL_BENCHMARKS")
        return path

    return find


@pytest.fixture(autouse=True, scope="session")
def _hear_signals() -> None:
    """Restore the handlers of Ctrl-C and SIGHUP.

    A process that a shell starts in the background ignores Ctrl-C, and under nohup also SIGHUP. Its
    child processes inherit this.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on the CPU, where a seed gives the same bits, except in tests marked `on_device`."""
    if "on_device" not in request.keywords:
        monkeypatch.setattr("kgtool.models.factory.path_device", lambda: torch.device("cpu"))
