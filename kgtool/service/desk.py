"""A single thread for all scoring, with a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kgtool.errors import KGToolError

Reply = TypeVar("Reply")


class BusyError(KGToolError):
    """The queue of queries is full."""


class Desk:
    """Answers one query at a time: scoring needs all cores and much memory.

    Args:
        most: the most requests in the queue.
    """

    def __init__(self, most: int = 32) -> None:
        self.most = most
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "scoring")

    async def work(self, question: Callable[[], Reply]) -> Reply:
        """Wait in the queue, then return the result of a query.

        Raises:
            BusyError: if the queue is full.
        """
        (reply,) = await self.work_all([question])
        return reply

    async def work_all(self, questions: Iterable[Callable[[], Reply]]) -> list[Reply]:
        """As `work`, for several queries in turn: other requests have their turn in between.

        Raises:
            BusyError: if the queue is full; then no query has been answered.
        """
        if self._waiting >= self.most:
            raise BusyError(f"{self._waiting} queries are waiting already. Remedy: try again soon.")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return [await loop.run_in_executor(self._thread, question) for question in questions]
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread; waiting queries are cancelled."""
        self._thread.shutdown(cancel_futures=True)
