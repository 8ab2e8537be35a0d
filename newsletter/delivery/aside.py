"""Where the transactions of batches run: in the loop's own thread, or beside it.

SQLite has one writer, which is this process. PostgreSQL is a process of its own: while it works on
one batch, the next one's request is prepared and another's answer is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Aside(Protocol):
    """Runs a function that waits for the database, and returns what it returns."""

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        """Await the function's end; it runs to its end even where nobody awaits it any more."""
        ...


async def inline(work: Callable[[], _T], /) -> _T:
    """In the loop's thread: until it returns nothing else happens in this process."""
    return work()


class Beside:
    """In some threads, each with a connection of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="transactions")

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
