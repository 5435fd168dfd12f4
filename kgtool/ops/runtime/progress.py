"""Progress of long work: a bar on a terminal or in a notebook, elsewhere a line a minute.

All of it goes to standard error. A bar in the work of another bar is not shown.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from numba.core import event
from tqdm.auto import tqdm

# Seconds between two lines where nobody watches.
EVERY = 60.0
# Without the rate, so that 80 columns hold the numbers.
BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
# Seconds of work before a bar appears that the caller did not ask for.
DELAY = 2.0


class _Shown:
    """What this process shows: the work of a command, the active bar, the time of the last line."""

    def __init__(self) -> None:
        self.command: str | None = None
        self.active: Progress | None = None
        self.last = self.began = time.monotonic()
        self.compiling = 0
        self.announced = False
        self.lock = threading.RLock()


_shown = _Shown()


def is_watched() -> bool:
    """Whether a bar can be drawn: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def say(line: str) -> None:
    """Print a line to standard error, above the bar if there is one."""
    with _shown.lock:
        _shown.last = time.monotonic()
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()


class Progress:
    """The progress of work of a known size; use it in a `with` block.

    Args:
        total: the size of the work; 0 if it is not known.
        name: what is done, such as `test`.
        unit: of the work, such as `query`.
        shown: whether to show it; `show_progress` shows it after a while in any case.
        initial: the work that is done already.
        unit_scale: show large numbers as `1.2M`.
    """

    def __init__(
        self,
        total: int,
        name: str,
        unit: str,
        *,
        shown: bool = False,
        initial: int = 0,
        unit_scale: bool = False,
    ) -> None:
        outer = _shown.active is None
        self.total, self.name, self.unit = total, name, unit
        self.done = initial
        self.shown = outer and (shown or _shown.command is not None)
        self.drawn = self.shown and is_watched()
        self._numbers: dict[str, str] = {}
        self._began = time.monotonic()
        # When, and with how much work, the first part was done: it may have compiled kernels.
        self._first: tuple[float, int] | None = None
        self._bar: Any = tqdm(
            total=total or None, initial=initial, desc=f"{name}: ", unit=unit,
            unit_scale=unit_scale, disable=not self.drawn, delay=0 if shown else DELAY,
            bar_format=None if unit_scale else BAR,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        if self.shown:
            _shown.active = self
            self._began = _shown.last = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _shown.active is self:
            _shown.active = None
        self._bar.close()

    def update(self, count: int = 1, numbers: Mapping[str, str] | None = None) -> None:
        """Add work done, and show numbers next to it, by name."""
        self.done += count
        self._first = self._first or (time.monotonic(), self.done)
        if numbers:
            self._numbers = dict(numbers)
            self._bar.set_postfix(self._numbers, refresh=False)
        self._bar.update(count)
        if self.shown and not self.drawn and time.monotonic() - _shown.last >= EVERY:
            say(self.line())

    def expect(self, total: int) -> None:
        """Set the size of the work, where it was not known."""
        self.total = self._bar.total = total

    def rename(self, name: str) -> None:
        """Show another name."""
        self.name = name
        self._bar.set_description(name, refresh=False)

    def stage(self, name: str | None) -> None:
        """Show what the work waits for in place of its name; None: the name again."""
        self._bar.set_description(name or self.name)

    def line(self) -> str:
        """The progress as a line of text."""
        now = time.monotonic()
        share = f" of {self.total:,} ({100 * self.done / self.total:.0f} %)" if self.total else ""
        parts = [f"{self.name}: {self.unit} {self.done:,}{share}"]
        parts += [f"{name} {number}" for name, number in self._numbers.items()]
        parts.append(f"{duration(now - self._began)} so far")
        since, first = self._first or (now, self.done)
        if self.done > first and self.total:
            left = (now - since) * (self.total - self.done) / (self.done - first)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def show_progress(command: str) -> Iterator[None]:
    """Show all progress in this block: the bars of the work, and a line a minute without a bar.

    Args:
        command: the name of the work, for the lines.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(min(EVERY, 1.0)):
            with _shown.lock:
                active = _shown.active
                quiet = active.drawn if active is not None else _shown.command is None
                if quiet or time.monotonic() - _shown.last < EVERY:
                    continue
                so_far = duration(time.monotonic() - _shown.began)
                say(active.line() if active else f"{command}: working, {so_far} so far")

    _shown.command, _shown.began = command, time.monotonic()
    _shown.last = _shown.began
    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _shown.command = None


def end_progress() -> None:
    """Show no more lines of `show_progress`: the command only waits from now on, as a server."""
    with _shown.lock:
        _shown.command = None


class _Compiling(event.Listener):
    """Says that kernels are compiled: it takes a minute in which nothing else happens."""

    def on_start(self, event: event.Event) -> None:
        """Say so, once in a process or on the bar."""
        with _shown.lock:
            _shown.compiling += 1
            if _shown.active is not None and _shown.active.drawn:
                _shown.active.stage("compiling kernels")
            elif not _shown.announced and (_shown.active or _shown.command):
                _shown.announced = True
                say("compiling kernels, which later starts find compiled")

    def on_end(self, event: event.Event) -> None:
        """The bar shows its name again when nothing is compiled any more."""
        with _shown.lock:
            _shown.compiling -= 1
            if not _shown.compiling and _shown.active is not None:
                _shown.active.stage(None)


event.register("numba:compile", _Compiling())  # type: ignore[no-untyped-call]
