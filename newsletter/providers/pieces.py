"""A request's body in pieces, joined as they are written: what messages share is in memory once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: About as many bytes are joined and written at once.
CHUNK = 512 * 1024


class Pieces:
    """Bytes that are given out in chunks. `len()` is their number, `bytes()` all of them."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def __iter__(self) -> Iterator[bytes]:
        start = held = 0
        for place, piece in enumerate(self._pieces, start=1):
            held += len(piece)
            if held >= CHUNK:
                yield b"".join(self._pieces[start:place])
                start, held = place, 0
        if held:
            yield b"".join(self._pieces[start:])


#: A body, whole or in pieces; `bytes(body)` is the same bytes either way.
Body = bytes | Pieces


def chunks(body: Body) -> Iterator[bytes]:
    """The body as it is written: a body written at once would be copied whole on its way."""
    if isinstance(body, Pieces):
        yield from body
        return
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]
