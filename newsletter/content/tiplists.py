"""Tips from a file: a list of tips as it stands, or the instructions found in prose."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from newsletter.content.blocks import Block, has_heading_shape, read_blocks, split_lines
from newsletter.content.model import Candidate, ContentItem
from newsletter.content.reading import Document
from newsletter.content.sentences import count_words, guess_language
from newsletter.content.splitting import divide
from newsletter.content.tips import find_tips, short_title

_PROSE_WORDS = 35  # where paragraphs have more, they are no tips but prose to look for tips in


def _tip(title: str, body: str, source: str, values: dict[str, Any]) -> Candidate:
    return Candidate("tip", title, body, source, sha256(body.encode()).hexdigest(), values)


def found_in(item: ContentItem) -> list[Candidate]:
    """The instructions in an article of `content/`; each one's source is the article."""
    values = {
        "author": item.author,
        "topics": list(item.topics),
        "review_by": item.review_by,
        "recalled": item.recalled,
    }
    return [_tip(tip.title, tip.text, item.id, values) for tip in find_tips(item)]


def tips_of(document: Document) -> list[Candidate]:
    """The tips of a document: its list items, lines or paragraphs; of prose, its instructions.

    A heading over one paragraph is that tip's title, a heading over several is none's.
    """
    values = {
        "author": document.author,
        "published": document.published,
        "topics": list(document.topics),
        "review_by": document.review_by,
        "recalled": document.recalled,
    }
    blocks = _blocks(document)
    bodies = [block for block in blocks if block.kind in {"paragraph", "item"}]
    if not bodies:
        return []
    if median(count_words(block.text) for block in bodies) > _PROSE_WORDS:
        return _in_prose(document, values)
    items = [block for block in bodies if block.kind == "item"]
    candidates: list[Candidate] = []
    for index, block in enumerate(blocks):
        if block.kind not in {"paragraph", "item"} or _is_lead_in(block, items):
            continue
        title = _title_above(blocks, index) or short_title(block.text)
        lines = f"#L{block.first}-L{block.last}"
        candidates.append(_tip(title, block.text, document.source + lines, values))
    return candidates


def _blocks(document: Document) -> list[Block]:
    """The document's blocks; a line is a heading only over one that reads as a sentence."""
    blocks = read_blocks(split_lines(document.text), marked=True)
    marked: list[Block] = []
    for index, block in enumerate(blocks):
        after = blocks[index + 1] if index + 1 < len(blocks) else None
        if _is_title(block, after):
            block = Block("heading", block.text, block.first, block.last, block.gap)
        marked.append(block)
    return marked


def _is_title(block: Block, after: Block | None) -> bool:
    """A short line with no stop, apart from what is above and close on a sentence."""
    return (
        block.kind == "paragraph"
        and after is not None
        and has_heading_shape(block.text)
        and len(block.text.split()) <= 8
        and (after.kind == "item" or (after.gap == 0 and after.text[-1] in ".!"))
    )


def _is_lead_in(block: Block, items: list[Block]) -> bool:
    return block.kind == "paragraph" and bool(items) and block.text.endswith(":")


def _title_above(blocks: list[Block], index: int) -> str:
    if index == 0 or blocks[index - 1].kind != "heading":
        return ""
    after = blocks[index + 1] if index + 1 < len(blocks) else None
    alone = after is None or after.kind in {"heading", "rule", "call"}
    return blocks[index - 1].text if alone else ""


def _in_prose(document: Document, values: dict[str, Any]) -> list[Candidate]:
    candidates: list[Candidate] = []
    for part in divide(document.text, whole=document.whole, marked=document.marked).parts:
        item = ContentItem(
            "",
            "article",
            part.title,
            part.body,
            Path(),
            "",
            language=guess_language(part.body),
        )
        source = f"{document.source}#L{part.first}-L{part.last}"
        candidates += (_tip(tip.title, tip.text, source, values) for tip in find_tips(item))
    return candidates
