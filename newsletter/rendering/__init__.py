"""Rendering: from an issue to HTML, text and headers with slots for what differs between people.

It knows no database, no network and no subscriber; an issue is compiled once, and a recipient is
then one substitution.
"""

from newsletter.rendering.compile import (
    MOST_SEGMENTS,
    Rendered,
    compile_issue,
    neutral_recipient,
)
from newsletter.rendering.images import MediaFile
from newsletter.rendering.message import compose, eml_bytes, make_form, message_id, personals
from newsletter.rendering.notice import render_notice
from newsletter.rendering.views import segments_of

__all__ = [
    "MOST_SEGMENTS",
    "MediaFile",
    "Rendered",
    "compile_issue",
    "compose",
    "eml_bytes",
    "make_form",
    "message_id",
    "neutral_recipient",
    "personals",
    "render_notice",
    "segments_of",
]
