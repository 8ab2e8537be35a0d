"""Images: there, described, and small enough to load on a phone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from newsletter.checks.finding import Problem, Rule
from newsletter.checks.reading import ImageUse
from newsletter.checks.subject import Draft

MOST_BYTES = 1_000_000


def _local(draft: Draft) -> Iterator[tuple[ImageUse, Path]]:
    for image in draft.reading.images:
        if urlsplit(image.src).scheme not in ("http", "https"):
            yield image, draft.issue.folder / image.src


def _present(draft: Draft) -> Iterator[Problem]:
    for image, path in _local(draft):
        if problem := _what_is_wrong(path, draft.issue.folder):
            yield Problem(f"{problem}: {image.src}", image.line)


def _what_is_wrong(path: Path, folder: Path) -> str:
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return "an image outside the issue's folder"
        if not path.is_file():
            return "no such image"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.verify()
    except Image.DecompressionBombError:
        return "an image with too many pixels"
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError):  # the last: a loop of links
        return "not an image that can be read"
    return ""


def _alt(draft: Draft) -> Iterator[Problem]:
    for image in draft.reading.images:
        if image.alt is None:
            yield Problem(f"an image without alt text: {image.src}", image.line)
        elif not image.alt.strip() and image.linked:
            yield Problem(f"an image that is a link has no words: {image.src}", image.line)
        elif not image.alt.strip():
            yield Problem(
                f"marked as decoration by an empty alt text: {image.src}",
                image.line,
                severity="info",
                hint="Describe it if it says anything.",
            )


def _size(draft: Draft) -> Iterator[Problem]:
    for image, path in _local(draft):
        try:
            size = path.stat().st_size
        except (OSError, ValueError):
            continue  # told by `images.present`
        if size > MOST_BYTES:
            yield Problem(f"{image.src} has {size / 1e6:.1f} MB; 1 MB is the limit", image.line)


def _remote(draft: Draft) -> Iterator[Problem]:
    for image in draft.reading.images:
        if urlsplit(image.src).scheme in ("http", "https"):
            yield Problem(f"an image from elsewhere: {image.src}", image.line)


RULES: tuple[Rule[Draft], ...] = (
    Rule(
        "images.present",
        "block",
        "docs/writing.md",
        "Put a PNG, JPEG, GIF or WebP beside issue.md.",
        _present,
    ),
    Rule(
        "images.alt",
        "block",
        "WCAG 2.2 criterion 1.1.1; European Accessibility Act",
        'Add alt="what it shows"; alt="" marks mere decoration.',
        _alt,
    ),
    Rule("images.size", "block", "docs/writing.md", "Scale it down to 1,200 pixels.", _size),
    Rule(
        "images.remote",
        "warn",
        "docs/writing.md",
        "Put the file beside issue.md: there it is scaled, kept and private.",
        _remote,
    ),
)
