"""A CSV file of unknown make as a stream of rows, each with the physical line where it starts.

It finds encoding and delimiter, reads in bounded memory, and loses no more than the broken row to
a quote gone wrong. It must not know what the columns mean.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from newsletter.errors import BadInput, Where

DELIMITERS = ",;\t|"
LINE_LIMIT = 1_000_000  # characters: a longer line is no row of an audience
ROW_LINES = 100  # a quoted cell with more line breaks is a quote that was not closed
_CHUNK = 1 << 20
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class CsvFile:
    """An open file that was seen to decode; its text starts after the byte order mark."""

    file: BinaryIO
    encoding: str
    start: int
    size: int

    @contextmanager
    def text(self) -> Iterator[io.TextIOWrapper]:
        """The text from its first character, with its line ends as they are."""
        self.file.seek(self.start)
        text = io.TextIOWrapper(self.file, encoding=self.encoding, newline="")
        try:
            yield text
        finally:
            text.detach()


@dataclass(frozen=True, slots=True)
class RowOfCells:
    """`line` is physical, the first being 1; `error` says why there are no cells to use."""

    line: int
    cells: list[str]
    error: str = ""


@contextmanager
def open_csv(path: Path) -> Iterator[CsvFile]:
    """Open a file and decode all of it once. Raises `BadInput` that names the line and the byte."""
    with ExitStack() as stack:
        try:
            if path.is_char_device():  # /dev/zero has no end
                raise OSError(errno.ENOTSUP, "it is a device, not a file")
            file: BinaryIO = stack.enter_context(path.open("rb"))
            if not file.seekable():  # a pipe: it is read twice all the same
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, copy)
                file = copy
            checked = _check(file, Where(str(path)))
        except OSError as error:
            raise BadInput(
                f"cannot be read: {error.strerror or error}",
                where=Where(str(path)),
                hint="Name a CSV file. Nothing was imported.",
            ) from error
        yield checked


def read_rows(source: CsvFile, delimiter: str) -> Generator[RowOfCells, None, None]:
    """The rows, the header among them; blank lines are passed over. Close it before the file."""
    with source.text() as text:
        lines = _Lines(lambda: text.readline(LINE_LIMIT))
        while line := lines.next():
            if not line.isspace():
                yield _row(line, lines, delimiter)


def detect_delimiter(source: CsvFile, wanted: str) -> str:
    """The delimiter under which the first line has a column `wanted`, else the most frequent."""
    with source.text() as text:
        while (first := text.readline(LINE_LIMIT)).isspace():
            pass

    def score(delimiter: str) -> tuple[bool, int]:
        cells = _rough_cells(first, delimiter)
        return (wanted in (cell.strip().casefold() for cell in cells), len(cells))

    return max(DELIMITERS, key=score)


class _Lines:
    """Physical lines with a number, some of which can be put back."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._waiting: deque[str] = deque()
        self.number = 0

    def next(self) -> str:
        """The next line with its end, '' at the end of the file."""
        line = self._waiting.popleft() if self._waiting else self._read()
        if line:
            self.number += 1
        return line

    def put_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)

    def skip_rest(self) -> None:
        """Pass over what is left of a line that was longer than the limit."""
        while (piece := self._read()) and not piece.endswith(("\n", "\r")):
            pass


def _row(line: str, lines: _Lines, delimiter: str) -> RowOfCells:
    start = lines.number
    if len(line) >= LINE_LIMIT and not line.endswith(("\n", "\r")):
        lines.skip_rest()
        return RowOfCells(start, [], f"the line has more than {LINE_LIMIT} characters")
    if "\0" in line:
        return RowOfCells(start, [], "the line holds a NUL byte")
    if '"' not in line:
        return RowOfCells(start, line.rstrip("\r\n").split(delimiter))
    return _quoted_row(line, lines, delimiter, start)


def _quoted_row(line: str, lines: _Lines, delimiter: str, start: int) -> RowOfCells:
    """A row with quotes, which may go on over the next lines.

    If they never make a row together, only the first line is wrong: the others are read anew.
    """
    taken = [line]
    while True:
        try:
            return RowOfCells(start, _parse(taken, delimiter))
        except csv.Error as error:
            reason, open_quote = str(error), "unexpected end of data" in str(error)
        more = lines.next() if open_quote and len(taken) < ROW_LINES else ""
        # The row can only end on a line with an odd number of quotes.
        while more:
            taken.append(more)
            if more.count('"') % 2 or len(taken) >= ROW_LINES:
                break
            more = lines.next()
        if not more:
            lines.put_back(taken[1:])
            wrong = "a quote is opened and not closed" if open_quote or len(taken) > 1 else reason
            return RowOfCells(start, _rough_cells(line, delimiter), wrong)


def _parse(lines: list[str], delimiter: str) -> list[str]:
    # The reader is told where a line ends by the end of the item alone, hence one item.
    rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    if len(rows) != 1 or any("\0" in cell for cell in rows[0]):
        raise csv.Error("the quotes do not match")
    return rows[0]


def _rough_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line that does not parse, near enough to show whose it is."""
    return [cell.strip('" \r\n') for cell in line.split(delimiter)]


def _check(file: BinaryIO, where: Where) -> CsvFile:
    head = file.read(4)
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", "utf-8")
    )
    file.seek(len(mark))
    decoder = codecs.getincrementaldecoder(encoding)()
    # It counts a line end that falls between two chunks as one.
    lines = io.IncrementalNewlineDecoder(decoder, translate=True)
    line, seen = 1, len(mark)
    while True:
        chunk = file.read(_CHUNK)
        undecoded = len(decoder.getstate()[0])
        try:
            line += lines.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding)
            line += before.replace("\r\n", "\n").replace("\r", "\n").count("\n")
            raise BadInput(
                f"byte {seen - undecoded + error.start + 1} is not {encoding.upper()}: "
                f"{error.reason}",
                where=Where(where.file, line),
                hint="Save the file as CSV in UTF-8 and try again. Nothing was imported.",
            ) from error
        seen += len(chunk)
        if not chunk:
            return CsvFile(file, encoding, len(mark), seen)
