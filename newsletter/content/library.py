"""The files under `content/`: reading, naming, writing and removing them. It knows no database."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import re
import tempfile
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from newsletter.content.model import FOLDERS, ContentItem, Kind
from newsletter.content.sentences import count_words, guess_language
from newsletter.errors import BadInput, NotFound, Where
from newsletter.frontmatter import compose, read_typed
from newsletter.workspace import Workspace

KEYS = (
    "title",
    "source",
    "author",
    "published",
    "topics",
    "words",
    "sha256",
    "review_by",
    "recalled",
)
MAX_FILE_BYTES = 5_000_000
_SLUG_LENGTH = 80
_SPECIAL = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o"}
)
_ID = re.compile(r"(articles|tips)/([^/\\\x00]{1,200})")


def load_items(workspace: Workspace) -> list[ContentItem]:
    """All articles and tips, by id. Raises `BadInput` with file and line of the first fault."""
    return [read_item(workspace, path) for path in item_paths(workspace)]


def item_paths(workspace: Workspace) -> Iterator[Path]:
    """The files of all articles, then of all tips, by name."""
    for folder in FOLDERS.values():
        directory = workspace.content / folder
        if directory.is_dir():
            yield from sorted(
                path
                for path in directory.glob("*.md")
                if not path.name.startswith(".") and path.is_file()
            )


def load_item(workspace: Workspace, id: str, *, where: Where | None = None) -> ContentItem:
    """One item by its id.

    Without it: `NotFound` for an id that a person named as an argument; with `where`, the place
    in an issue that names it, `BadInput` there.
    """
    path = item_path(workspace, id)
    if path is not None and path.is_file():
        return read_item(workspace, path)
    hint = _nearest(workspace, id)
    if where is not None:
        raise BadInput(f"there is no content {id!r}", where=where, hint=hint)
    raise NotFound(f"there is no content {id!r}", hint=hint)


def item_path(workspace: Workspace, id: str) -> Path | None:
    """Where the file of an id would be; None for what is no id (`../`, another folder)."""
    match = _ID.fullmatch(id)
    if match is None or match[2].startswith("."):
        return None
    return workspace.content / match[1] / f"{match[2]}.md"


def _nearest(workspace: Workspace, id: str) -> str:
    known = [_id_of(path) for path in item_paths(workspace)]
    close = difflib.get_close_matches(id, known[:5000], n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else "See `newsletter content list`."


def _id_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def read_item(workspace: Workspace, path: Path) -> ContentItem:
    """Read one file of `content/`. Raises `BadInput` naming file and line."""
    file = workspace.relative(path)
    text = _read_text(path, file)
    parsed = read_typed(text, file, KEYS)
    if parsed is None:
        raise BadInput(
            "it has no front matter, or one that is not closed",
            where=Where(file, 1),
            hint="Start the file with a line ---, then title: …, then a line ---.",
        )
    values = Fields(parsed.values, parsed.lines, file)
    title = values.text("title")
    if not title:
        raise BadInput("the front matter has no title", where=Where(file, 1))
    values.whole("words")
    body = parsed.body.strip("\n")
    kind: Kind = "tip" if path.parent.name == FOLDERS["tip"] else "article"
    return ContentItem(
        id=_id_of(path),
        kind=kind,
        title=title,
        body=body,
        path=path,
        file=file,
        source=values.text("source"),
        author=values.text("author"),
        published=values.day("published"),
        topics=values.texts("topics"),
        words=count_words(body),
        sha256=values.text("sha256"),
        review_by=values.day("review_by"),
        recalled=values.reason("recalled"),
        language=guess_language(body),
    )


def _read_text(path: Path, file: str) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput("the file is larger than 5 MB", where=Where(file))
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            "it is not UTF-8 text", where=Where(file), hint="Save it as UTF-8."
        ) from error
    except OSError as error:
        raise BadInput(f"it cannot be read: {error.strerror}", where=Where(file)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Fields:
    """The values of a front matter by type; a wrong one is `BadInput` at its line."""

    def __init__(self, values: Mapping[str, Any], lines: Mapping[str, int], file: str) -> None:
        self._values, self._lines, self._file = values, lines, file

    def where(self, key: str) -> Where:
        return Where(self._file, self._lines.get(key, 1))

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if value is None:
            return ""
        if isinstance(value, (dict, list, bool)):
            raise BadInput(f"{key} must be a text", where=self.where(key))
        return " ".join(str(value).split())

    def whole(self, key: str) -> int | None:
        value = self._values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise BadInput(f"{key} must be a whole number", where=self.where(key))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; one text alone, or several with commas, is accepted too."""
        value = self._values.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list) or any(isinstance(part, (dict, list)) for part in value):
            raise BadInput(f"{key} must be a list, such as [skin, hair]", where=self.where(key))
        return tuple(text for part in value if (text := " ".join(str(part).split())))

    def day(self, key: str) -> date | None:
        value = self._values.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(str(value)).date()
        raise BadInput(f"{key} must be a date such as 2026-11-24", where=self.where(key))

    def reason(self, key: str) -> str:
        value = self._values.get(key)
        if value is None or value is False:
            return ""
        return "no reason given" if value is True else self.text(key)


def slug(title: str) -> str:
    """A title as a file's name: lower case, letters and digits of any script, at most 80."""
    lowered = unicodedata.normalize("NFKC", title).casefold().translate(_SPECIAL)
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", lowered)
        if not unicodedata.combining(character)
    )
    name = re.sub(r"[\W_]+", "-", re.sub(r"['’]", "", plain)).strip("-")
    if len(name) > _SLUG_LENGTH:
        cut = name[:_SLUG_LENGTH]
        name = cut.rsplit("-", 1)[0] if "-" in cut[20:] else cut
    return name.strip("-") or "untitled"


def write_item(
    workspace: Workspace,
    kind: Kind,
    title: str,
    values: Mapping[str, Any],
    body: str,
    *,
    over: Collection[str] = (),
) -> ContentItem:
    """Write a new item whole or not at all, under the first free id made from its title.

    Ids in `over` count as free: their files are replaced.
    """
    text = f"{compose(values)}\n{body.strip()}\n"
    folder = workspace.content / FOLDERS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o644)
        return read_item(workspace, _place(draft, folder, slug(title), over))
    finally:
        draft.unlink(missing_ok=True)


def _place(draft: Path, folder: Path, name: str, over: Collection[str]) -> Path:
    """Give the draft its name, which no other process can take between a look and the deed."""
    for number in itertools.count(1):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}.md"
        if _id_of(path) in over:
            draft.replace(path)
            return path
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return path
    raise AssertionError("the numbers do not end")


_REFERENCE = re.compile(r'\bfrom=(?:"([^"\n]*)"|([^\s}"]+))')


def uses(workspace: Workspace) -> dict[str, list[str]]:
    """Which issues use an item: id → slugs, by the `from=` of their fences."""
    found: dict[str, set[str]] = {}
    for path in sorted(workspace.issues.glob("*/issue.md")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise BadInput(
                f"it cannot be read: {error.strerror}", where=Where(workspace.relative(path))
            ) from error
        for line in text.split("\n"):
            if line.lstrip().startswith(":::"):
                for quoted, plain in _REFERENCE.findall(line):
                    found.setdefault(quoted or plain, set()).add(path.parent.name)
    return {id: sorted(slugs) for id, slugs in found.items()}
