"""One thread that does all scoring, and a short queue before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kgtool.errors import KGToolError

Reply = TypeVar("Reply")


class BusyError(KGToolError):
    """More is asked than can be answered soon."""


class Desk:
    """Works on one question at a time: a model's scoring takes all cores, and memory, as it is.

    Args:
        most: questions that may wait.
    """

    def __init__(self, most: int = 32) -> None:
        self.most = most
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "scoring")

    async def work(self, question: Callable[[], Reply]) -> Reply:
        """What a question gives, when it is its turn.

        Raises:
            BusyError: when too many wait.
        """
        if self._waiting >= self.most:
            raise BusyError(f"{self._waiting} questions wait already. Remedy: ask again soon.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread; what waits is not answered."""
        self._thread.shutdown(cancel_futures=True)
