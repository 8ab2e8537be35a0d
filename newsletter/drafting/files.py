"""Issues on disk: one folder each under issues/, with `issue.md` and its images."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from newsletter.content import load_item
from newsletter.drafting.issue import Issue
from newsletter.drafting.parse import parse_issue, walk
from newsletter.errors import BadInput, Conflict, NotFound, Where
from newsletter.suggest import shorten
from newsletter.workspace import Workspace

FILE_NAME = "issue.md"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MOST_BYTES = 4_000_000


def check_slug(slug: str) -> str:
    """The slug itself. Raises `BadInput` for one that could leave its folder or its address."""
    if not _SLUG.fullmatch(slug):
        raise BadInput(
            f"not a name for an issue: {shorten(slug)!r}",
            hint="Use small letters, digits and hyphens, 100 at most: spring-skin-care.",
        )
    return slug


def issue_path(workspace: Workspace, slug: str) -> Path:
    """Where the issue's file is or would be. Raises `BadInput` for a wrong slug."""
    return workspace.issues / check_slug(slug) / FILE_NAME


def load_issue(workspace: Workspace, slug: str) -> Issue:
    """Read, parse and check an issue, its sources included.

    Raises `NotFound` if there is none, `BadInput` with file and line for what is wrong in it.
    """
    issue = read_issue(workspace, slug)
    for block_source, line in source_lines(issue).items():
        load_item(workspace, block_source, where=Where(issue.file, line))
    return issue


def read_issue(workspace: Workspace, slug: str) -> Issue:
    """As `load_issue`, without looking up its sources."""
    path = issue_path(workspace, slug)
    file = workspace.relative(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no issue {slug!r}", hint="`newsletter issues` lists those there are."
        ) from error
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=Where(file)) from error
    return parse_issue(decode(data, file), slug, path, file)


def decode(data: bytes, file: str) -> str:
    """The text of a file in UTF-8. Raises `BadInput` with the line of a byte that is not."""
    if len(data) > _MOST_BYTES:
        raise BadInput(f"the file is larger than {_MOST_BYTES // 1_000_000} MB", where=Where(file))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            "the file is not in UTF-8",
            where=Where(file, line),
            hint="Save it as UTF-8 in your editor.",
        ) from error


def list_issues(workspace: Workspace) -> list[str]:
    """The slugs of all issues, in order."""
    return [name for name in folders(workspace) if _SLUG.fullmatch(name)]


def folders(workspace: Workspace) -> list[str]:
    """The names of all folders with an `issue.md`, those that are no slug too, in order."""
    try:
        found = list(workspace.issues.iterdir())
    except FileNotFoundError:
        return []
    return sorted(folder.name for folder in found if (folder / FILE_NAME).is_file())


def source_lines(issue: Issue) -> dict[str, int]:
    """The content that the issue uses, each with the line of its first block."""
    lines: dict[str, int] = {}
    for block in walk(issue.blocks):
        if source := block.attributes.get("from"):
            lines.setdefault(source, block.line)
    return lines


def create_issue(workspace: Workspace, slug: str, text: str) -> Path:
    """Write a new issue whole or not at all. Raises `Conflict` if the issue exists already."""
    path = issue_path(workspace, slug)
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this never replaces what is there
    except FileExistsError as error:
        raise Conflict(
            f"the issue {slug!r} exists already",
            where=Where(workspace.relative(path)),
            hint="Edit it, or choose another name.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
        if made and not path.exists():
            with contextlib.suppress(OSError):  # somebody may have put an image there meanwhile
                path.parent.rmdir()
    return path


def issue_digest(issue: Issue) -> str:
    """SHA-256 over the issue's text and every other file of its folder, names included.

    Hidden files and editors' backups do not count. Raises `BadInput` if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(issue.folder.rglob("*")):
        name = path.relative_to(issue.folder)
        if path == issue.path or not path.is_file() or _is_private(name):
            continue
        try:
            content = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise BadInput(
                f"cannot be read: {error.strerror}",
                where=Where(f"{Path(issue.file).parent}/{name}"),
            ) from error
        digest.update(name.as_posix().encode("utf-8", "surrogateescape") + b"\0" + content)
    digest.update(b"\0" + issue.source.encode())
    return digest.hexdigest()


def _is_private(name: Path) -> bool:
    return name.name.endswith("~") or any(part.startswith(".") for part in name.parts)
