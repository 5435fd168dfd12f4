"""Turn stop signals into a flag that long work checks between its steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a flag; a second signal interrupts at once.

    SIGHUP comes when the terminal closes. It stays ignored if it was ignored, as under nohup. Only
    the main thread receives signals; in another thread, the flag is always false.

    Yields:
        A function that returns whether a signal came.
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
