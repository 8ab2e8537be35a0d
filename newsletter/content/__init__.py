"""Articles and tips: taken in from outside, kept as files, cut into excerpts and tips.

The files under `content/` are the truth; the database holds an index of them that can be rebuilt.
This stage knows no issue, no template and no subscriber.
"""

from newsletter.content.excerpts import excerpt
from newsletter.content.library import load_item, load_items, uses
from newsletter.content.model import ContentItem, Excerpt, Tip, is_blocked
from newsletter.content.shingles import most_different
from newsletter.content.tips import find_tips

__all__ = [
    "ContentItem",
    "Excerpt",
    "Tip",
    "excerpt",
    "find_tips",
    "is_blocked",
    "load_item",
    "load_items",
    "most_different",
    "uses",
]
