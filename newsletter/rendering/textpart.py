"""The text part of a whole message: blocks in order, the footnotes, then what the law asks for."""

from __future__ import annotations

from collections.abc import Sequence

from newsletter.rendering.slots import in_url
from newsletter.rendering.text import Footnotes, indent, to_text, wrap
from newsletter.rendering.views import View
from newsletter.rendering.wording import Words

_RULE = "-" * 40


def write(views: Sequence[View], heading: str, footer: Sequence[str], words: Words) -> str:
    """The text part. `footer` are its paragraphs, ready."""
    notes = Footnotes()
    pieces = [wrap(heading)] if heading else []
    pieces += [piece for view in views if (piece := _view(view, notes, words))]
    if notes.urls:
        pieces.append("\n".join([f"{words.links}{words.colon}", *notes.lines()]))
    pieces.append("\n\n".join([_RULE, *footer]))
    return "\n\n".join(pieces) + "\n"


def _view(view: View, notes: Footnotes, words: Words) -> str:
    match view.type:
        case "columns" | "column":
            pieces = (_view(child, notes, words) for child in view.children)
            return "\n\n".join(piece for piece in pieces if piece)
        case "divider":
            return "* * *"
        case "button":
            ends = view.label.endswith((":", "?", "!", ".", "…"))
            return f"{wrap(view.label)}{'' if ends else words.colon}\n{in_url(view.href)}"
        case "image":
            return _image(view, notes)
        case "quote":
            return _quote(view, notes)
        case "tip":
            return _tip(view, notes, words)
        case "excerpt" | "feature":
            return _story(view, notes, words)
    return to_text(view.tokens, notes)


def _tip(view: View, notes: Footnotes, words: Words) -> str:
    kicker = words.tip.upper()
    title = f"{kicker}{words.colon} {view.title}" if view.title else kicker
    pieces = [wrap(title), to_text(view.tokens, notes)]
    if view.href:
        pieces.append(f"{words.read_on}{words.colon} {in_url(view.href)}")
    return indent("\n".join(pieces), "* ", "  ")


def _story(view: View, notes: Footnotes, words: Words) -> str:
    pieces = [_title(view.title)] if view.title else []
    if view.image and view.alt:
        pieces.append(wrap(f"[{view.alt}]"))
    if view.source and view.source.author:
        pieces.append(wrap(f"{words.by} {view.source.author}"))
    pieces.append(to_text(view.tokens, notes))
    if view.href:
        pieces.append(f"{words.read_on}{words.colon} {in_url(view.href)}")
    return "\n\n".join(piece for piece in pieces if piece)


def _title(title: str) -> str:
    wrapped = wrap(title)
    return f"{wrapped}\n{'-' * max(len(line) for line in wrapped.splitlines())}"


def _image(view: View, notes: Footnotes) -> str:
    pieces = [wrap(f"[{view.alt}]") if view.alt else "", to_text(view.tokens, notes)]
    if view.href:
        pieces.append(in_url(view.href))
    return "\n".join(piece for piece in pieces if piece)


def _quote(view: View, notes: Footnotes) -> str:
    quoted = to_text(view.tokens, notes)
    by = view.by or (view.source.author or view.source.title if view.source else "")
    if by:
        quoted += f"\n\n-- {by}"
    return indent(quoted, "> ", "> ")
