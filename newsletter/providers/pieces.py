"""A request's body in pieces, joined as they are written: what messages share is in memory once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

#: About as many bytes are joined and written at once.
CHUNK = 512 * 1024


class Pieces:
    """Bytes that are given out in chunks. `len()` is their number, `bytes()` all of them."""

    __slots__ = ("_ends", "_pieces")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._ends = list(accumulate(map(len, pieces)))  # where each ends in the whole

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def __iter__(self) -> Iterator[bytes]:
        given = place = 0
        while given < len(self):
            following = bisect_left(self._ends, given + CHUNK, place) + 1
            yield b"".join(self._pieces[place:following])
            place = min(following, len(self._ends))
            given = self._ends[place - 1]


#: A body, whole or in pieces; `bytes(body)` is the same bytes either way.
Body = bytes | Pieces


def chunks(body: Body) -> Iterator[bytes]:
    """The body as it is written: a body written at once would be copied whole on its way."""
    if isinstance(body, Pieces):
        yield from body
        return
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]
