"""Signals that ask a long work to stop, heard at the next moment when it can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a flag; a second one is not held.

    SIGHUP, which comes when the terminal is closed, stays ignored where it was: under nohup.
    Outside of the main thread, which hears signals, there is none.

    Yields:
        Whether one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    watched = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    before = [signal.signal(number, note) for number in watched]
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)
