"""Faults in training: how often each occurred, and how often the run survived it.

    python -m tests.stress.faults --kills 200

The script trains a small run in its own process, one-path and all-paths in turn, and causes a
fault. The run survives if all files in its folder are complete, if the user sees an error with a
remedy and without a traceback, and if the resumed run gives the same best weights, the same last
checkpoint and the same history as an uninterrupted run, bit for bit. Else the run is lost.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

# Import first: kgtool must be imported before torch.
from benchmarks import common

# isort: split
import pandas as pd
import torch
from tqdm.auto import tqdm

from kgtool.config import Config, load_config, parse_config
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.errors import Interrupted, KGToolError
from kgtool.runs.run import BEGINNING, BEST, HISTORY, LAST, LOG, PREVIOUS, TRIPLES
from kgtool.storage import files
from kgtool.storage.checkpoint import load_tensors
from kgtool.training.trainer import train

# One thread: a process with more threads cannot be forked, and a forked process needs no time for
# imports.
ALONE = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",
}  # fmt: skip
Operations = tuple[tuple[Any, str], ...]
# The disk operations of writing a file, in their order.
OPERATIONS: Operations = (
    (files._NewFile, "__init__"), (files._NewFile, "write"), (os, "fsync"), (Path, "replace"),
    (Path, "unlink"),
)  # fmt: skip
HANGS = 60  # seconds until a hanging child prints a traceback and exits; it should take one second
RANDOM = "kill -9, at a random time"
BEFORE = "kill -9, before each write, sync and rename"
WITHIN = "kill -9, within each write"
STOPPED = {name: f"{name}, once or twice" for name in ("SIGINT", "SIGTERM", "SIGHUP")}
INJECTED = "full disk, from a file operation on"
LIMITED = "full disk, a limit on file sizes"
SMALL = "full disk, a small tmpfs"
READ_ONLY = "read-only disk"
DAMAGED = {name: f"damaged {name}" for name in (LAST, BEST)}
FAULTS = (
    RANDOM, BEFORE, WITHIN, *STOPPED.values(), INJECTED, LIMITED, SMALL, READ_ONLY,
    *DAMAGED.values(),
)  # fmt: skip
WRITES = OPERATIONS[1:2]
TRACEBACK = 70  # the exit status of a child that failed with a traceback
DISK = 2_000_000  # bytes of the small disk
Act = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


def ring(size: int = 24, steps: Sequence[int] = (1, 2, 5)) -> KGDataset:
    """Entity i has relation r to entity `i + steps[r]`, in a ring; 16 triples are held out."""
    triples = torch.tensor(
        [(i, r, (i + s) % size) for i in range(size) for r, s in enumerate(steps)]
    )
    triples = triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(1))]
    names = tuple(f"e{i:02}" for i in range(size)), tuple(f"r{r}" for r in range(len(steps)))
    return KGDataset("ring", None, Vocabulary(*names), triples[16:], triples[:8], triples[8:16])


def settings() -> list[Config]:
    """Settings of runs with 2 epochs of 4 steps, and with all options that draw random numbers."""
    training = {
        "epochs": 2, "warmup_steps": 2, "validate_every": 1, "precision": "float32",
        "optimizer": "adamw",
    }  # fmt: skip
    one = {"batch_size": 32, "path_query_ratio": 0.5, "walk_ratio": 0.5}
    all_paths = {"layers": 3, "mlp_dim": 8, "batch_size": 6, "max_targets": 2, "edge_dropout": 0.2}
    encoder = {"edge_dropout": 0.2, "feature_dropout": 0.1}
    return [
        parse_config({"seed": 7, "dim": 8, "training": training, **parts})
        for parts in ({"encoder": encoder, "one_path": one}, {"all_paths": all_paths})
    ]


def strike(number: int, act: Act, operations: Operations = OPERATIONS) -> Iterator[int]:
    """In this process, replace one of these operations by `act`: the `number`-th, from 1.

    Returns:
        The counter of the operations.
    """
    count = itertools.count(1)

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **others: Any) -> Any:
            if next(count) == number:
                return act(name, real, args)
            return real(*args, **others)

        return call

    for owner, name in operations:
        setattr(owner, name, watched(name, getattr(owner, name)))
    return count


def die(*_: Any) -> NoReturn:
    """Kill this process before the operation."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_within(_: str, real: Callable[..., Any], args: tuple[Any, ...]) -> NoReturn:
    """Kill this process in the middle of a write."""
    file, data = args
    real(file, memoryview(data)[: len(data) // 2])
    die()


def fill_disk() -> None:
    """From now on, let operations that need disk space fail in this process."""

    for owner, name in OPERATIONS:
        if name != "unlink":
            setattr(owner, name, no_space)


def no_space(*args: Any) -> NoReturn:
    """Fail like an operation on a full disk."""
    told = files.write_errors(args[0]._path) if hasattr(args[0], "_path") else nullcontext()
    with told:  # like a write
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise AssertionError


@dataclass
class Results:
    """The results of the faults.

    Attributes:
        counts: for each fault, how often it occurred and how often the run survived it.
        lost: a line for each lost run.
        skipped: the reason for each fault that could not be caused.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def note(self, fault: str, survived: bool, times: int = 1, last: str = "") -> None:
        """Count a fault."""
        found = self.counts.setdefault(fault, Counter())
        found["times"] += times
        found["survived"] += times * survived
        if not survived:
            self.lost.append(f"{fault}: {last}")


class Bench:
    """Strikes runs in a folder, at times and places drawn by `rng`, and counts the results."""

    def __init__(self, place: Path, rng: random.Random) -> None:
        self.place, self.rng, self.found, self.last = place, rng, Results(), ""
        self.data, self.configs = ring(), settings()
        tqdm.monitor_interval = 0  # no monitor thread, because a fork does not copy threads
        self.numbers = itertools.count()
        self.begin()
        for config in self.configs:  # compile kernels here, for all child processes
            train(config, self.data, self.out, progress=False)
            self.begin()
        self.whole: list[Path] = []
        self.seconds = 0.0
        for _ in self.configs:
            begun = time.perf_counter()
            assert self.child(self.go_on) == 0
            self.seconds = max(self.seconds, time.perf_counter() - begun)
            self.whole.append(self.out)
            self.begin()
        self.operations = self.count(OPERATIONS)

    def begin(self) -> None:
        """Begin a new run, of the other kind."""
        number = next(self.numbers)
        self.kind = number % len(self.configs)
        self.out = self.place / f"{number}"

    def go_on(self) -> None:
        """Continue the training of the run."""
        train(
            self.configs[self.kind], self.data, self.out, resume=self.out.exists(), progress=False
        )

    def count(self, operations: Operations) -> int:
        """The number of these operations in a run without faults."""
        counted = self.place / "operations"

        def count() -> None:
            seen = strike(-1, die, operations)
            self.go_on()
            counted.write_text(str(next(seen) - 1))

        status = self.child(count)
        assert status == 0, f"{status}: {self.stderr()}"
        self.begin()
        return int(counted.read_text())

    def start(self, work: Callable[[], None]) -> int:
        """Start work in its own process; returns the process id."""
        child = os.fork()
        if child:
            return child
        status = TRACEBACK
        # Forked processes share tqdm's lock. A child that is killed while it holds the lock would
        # hold it forever.
        tqdm.set_lock(threading.RLock())
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with (self.place / "stderr").open("w") as stderr:
                os.dup2(stderr.fileno(), 2)
                faulthandler.dump_traceback_later(HANGS, exit=True)
                try:
                    work()
                    status = 0
                except KGToolError as error:
                    print(error, file=sys.stderr, flush=True)
                    status = error.exit_code
                except (Interrupted, KeyboardInterrupt):
                    status = 130
                except BaseException:
                    traceback.print_exc()
        except KeyboardInterrupt:
            status = 130  # before the work began, or at its end
        finally:
            os._exit(status)

    def child(self, work: Callable[[], None]) -> int:
        """Do work in its own process; returns the exit status, negative for a signal."""
        return self.end(self.start(work))

    @staticmethod
    def end(child: int) -> int:
        """Wait for a process; returns its exit status, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def stderr(self) -> str:
        """The messages of the last child process."""
        return (self.place / "stderr").read_text()

    def note(self, fault: str, survived: bool, times: int = 1) -> None:
        """Count a fault, with the details from the last call of `same`."""
        self.found.note(fault, survived, times, self.last)

    def same(self) -> bool:
        """Resume the run, and begin another; returns whether it equals the run without faults."""
        struck = self.stderr()
        status = self.child(self.go_on)
        differ: list[str] = []
        if status == 0:
            ours, whole = all_of(self.out), all_of(self.whole[self.kind])
            differ = [key for key in whole if ours[key] != whole[key]]
        self.last = f"struck: {struck!r}; resumed: {status} {self.stderr()!r}; differ: {differ}"
        shutil.rmtree(self.out, ignore_errors=True)
        self.begin()
        return status == 0 and not differ

    def kill(self, times: int) -> None:
        """`kill -9` at random times, again and again until the run ends."""
        struck = 0
        while struck < times:
            whole, here = True, 0
            while struck + here < times:
                child = self.start(self.go_on)
                time.sleep(self.rng.uniform(0, 1.2 * self.seconds))
                os.kill(child, signal.SIGKILL)
                if self.end(child) != -signal.SIGKILL:
                    break  # the child had ended
                whole &= files_whole(self.out)
                here += 1
            struck += here
            self.note(RANDOM, self.same() and whole, here)

    def kill_writing(self, every: int) -> None:
        """`kill -9` before file operations at regular intervals, and in the middle of writes."""
        for fault, act, operations in ((BEFORE, die, OPERATIONS), (WITHIN, die_within, WRITES)):
            for number in range(1, self.count(operations) + 1, every):
                status = self.child(partial(self.struck_run, number, act, operations))
                good = status == -signal.SIGKILL and files_whole(self.out)
                same = self.same()
                # A run of the other kind may have fewer operations and end earlier.
                if status != 0:
                    self.note(fault, same and good)

    def struck_run(self, number: int, act: Act, operations: Operations = OPERATIONS) -> None:
        """Continue the training with a fault."""
        strike(number, act, operations)
        self.go_on()

    def stop(self, times: int) -> None:
        """Send signals that request a stop, once and twice."""
        for number in range(times):
            name = tuple(STOPPED)[number % 3]
            twice = number % 2
            child = self.start(self.go_on)
            time.sleep(self.rng.uniform(0, self.seconds))
            for _ in range(1 + twice):
                os.kill(child, signal.Signals[name])
                time.sleep(self.rng.uniform(0, 0.01))
            status = self.end(child)
            good = status != TRACEBACK and files_whole(self.out)
            self.note(STOPPED[name], self.same() and good)

    def failed_well(self, status: int, reason: str) -> bool:
        """Whether the child failed correctly after a disk fault: with an error message."""
        stderr = self.stderr()
        return status == 1 and reason in stderr and "Traceback" not in stderr

    def no_room(self, times: int) -> None:
        """No disk space, from a given file operation on."""
        for _ in range(times):
            number = self.rng.randint(1, self.operations - 1)

            def work(number: int = number) -> None:
                def act(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
                    fill_disk()
                    return real(*args) if name == "unlink" else no_space(*args)

                strike(number, act)
                self.go_on()

            status = self.child(work)
            good = self.failed_well(status, os.strerror(errno.ENOSPC)) and files_whole(self.out)
            # Training may succeed without the last operations: the sync of a folder, a removal.
            good |= status == 0
            self.note(INJECTED, self.same() and good)

    def no_large_files(self, times: int) -> None:
        """A limit on file sizes that the checkpoints exceed."""
        for _ in range(times):
            largest = (self.whole[self.kind] / LAST).stat().st_size
            limit = self.rng.randint(largest // 3, largest - 1)

            def work(limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                self.go_on()

            good = self.failed_well(self.child(work), os.strerror(errno.EFBIG)) and files_whole(
                self.out
            )
            self.note(LIMITED, self.same() and good)

    def small_disk(self, times: int) -> None:
        """A small disk that is too full or read-only, and later has space and is writable."""
        disk = self.place / "disk"
        disk.mkdir()
        if wrong := mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)):
            self.found.skipped |= {SMALL: wrong, READ_ONLY: wrong}
            return
        try:
            for fault, struck in times * ((SMALL, self.too_full), (READ_ONLY, self.read_only)):
                self.out = disk / "run"
                good = struck(disk)
                self.note(fault, self.same() and good)
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def too_full(self, disk: Path) -> bool:
        """Begin a run on a disk with too little space; returns whether it failed correctly."""
        need = sum(path.stat().st_size for path in self.whole[self.kind].iterdir())
        filler = disk / "filler"
        filler.write_bytes(bytes(DISK - self.rng.randint(4096, need - 16384)))
        status = self.child(self.go_on)
        good = self.failed_well(status, os.strerror(errno.ENOSPC)) and files_whole(self.out)
        filler.unlink()
        return good

    def read_only(self, disk: Path) -> bool:
        """Resume a killed run on a read-only disk; returns whether it failed correctly."""
        self.child(partial(self.struck_run, self.rng.randint(1, self.operations), die))
        mount("-o", "remount,ro", str(disk))
        status = self.child(self.go_on)
        good = self.failed_well(status, os.strerror(errno.EROFS)) and files_whole(self.out)
        mount("-o", "remount,rw", str(disk))
        return good

    def damage(self, times: int) -> None:
        """Damage or remove a file: the last checkpoint, or the best weights."""
        for number in range(times):
            name = (LAST, BEST)[number // 2 % 2]
            # A random operation after the first validation.
            at = self.rng.randint(self.operations * 3 // 4, self.operations)
            self.child(partial(self.struck_run, at, die))
            if (self.out / name).exists():  # the child may have been killed before the rename
                damage(self.out / name, self.rng)
            status = self.child(self.go_on)
            stderr = self.stderr()
            good = status != TRACEBACK and name in stderr
            if status == 2:  # the best weights are missing, and the message has a remedy
                good &= "starts from the first step" in stderr
                for one in (LAST, PREVIOUS):
                    (self.out / one).unlink(missing_ok=True)
            else:
                good &= status == 0
            self.note(DAMAGED[name], self.same() and good)


def mount(*arguments: str) -> str:
    """Mount a file system; returns the error if it is not allowed."""
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def damage(path: Path, rng: random.Random) -> None:
    """Flip a bit of a file, truncate it, empty it, or remove it."""
    how = rng.choice(["a bit", "a bit", "cut", "empty", "gone"])
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "a bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del content[rng.randrange(1, len(content)) :]
    else:
        content.clear()
    path.write_bytes(content)


def files_whole(out: Path) -> bool:
    """Whether all files of a run's folder are complete; unfinished hidden files do not count."""
    if not out.exists():
        return True
    names = {path.name for path in out.iterdir()}
    for name in names:
        path = out / name
        if files.is_leftover(name, (*BEGINNING, TRIPLES, BEST, LAST, HISTORY)):
            continue
        try:
            if path.suffix == ".safetensors":
                load_tensors(path)
            elif path.suffix == ".toml" and path.read_bytes().endswith(b"\n"):
                load_config(path)
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                return False
        except (KGToolError, ValueError):
            return False
    # After the first checkpoint, there is always a checkpoint.
    return BEST not in names or bool(names & {LAST, PREVIOUS})


def all_of(out: Path) -> dict[str, Any]:
    """The content that must be equal for two runs: all except seconds, log and `previous`."""
    found: dict[str, Any] = {"files": sorted(path.name for path in out.iterdir())}
    for name in (BEST, LAST):
        tensors, state = load_tensors(out / name)
        found[name] = {key: t.numpy().tobytes() for key, t in tensors.items()}
        found[f"state of {name}"] = {
            key: value for key, value in state.items() if key not in ("seconds", "history")
        }
    table = pd.read_csv(out / HISTORY, sep="\t", dtype=str)
    found[HISTORY] = table.drop(columns="seconds").to_dict("records")
    for name in BEGINNING:
        found[name] = (out / name).read_bytes()
    found[LOG] = "finished after" in (out / LOG).read_text()
    return found


def struck(kills: int, seed: int) -> Results:
    """Strike with all faults, in this process, which must not have started threads."""
    memory = Path("/dev/shm")  # syncs on a real disk are slow
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        bench = Bench(Path(scratch), random.Random(seed))
        fewer = max(6, kills // 5)
        bench.kill(kills)
        bench.kill_writing(every=max(1, round(50 / kills)))
        bench.stop(fewer)
        bench.no_room(fewer)
        bench.no_large_files(max(2, fewer // 4))
        bench.small_disk(max(2, fewer // 4))
        bench.damage(fewer)
        return bench.found


def strike_all(kills: int, seed: int) -> Results:
    """Like `struck`, in a new process."""
    before = {name: os.environ.get(name) for name in ALONE}
    os.environ.update(ALONE)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(struck, kills, seed).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, strike, and print; returns 1 if a run was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=common.positive, default=50, metavar="N",
        help="kills at random times (%(default)s); other faults are in proportion",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="%(default)s")
    args = parser.parse_args(argv)
    found = strike_all(args.kills, args.seed)
    rows = [
        [fault, str(n["times"]), str(n["survived"]), str(n["times"] - n["survived"])]
        for fault, n in found.counts.items()
    ]
    common.print_table("Faults in training", ["fault", "times", "survived", "lost"], rows)
    for line in (
        *(f"skipped: {fault}: {why}" for fault, why in found.skipped.items()),
        *found.lost,
    ):
        common.console.print(line, markup=False)
    return int(bool(found.lost))


if __name__ == "__main__":
    raise SystemExit(main())
