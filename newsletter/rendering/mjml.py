"""MJML to HTML: checked first, since mrml itself checks nothing, and kept from mrml's faults.

mrml sees only components: their content and every unusual attribute are put aside before and put
back after, because it joins words across line breaks, ends the process on deep nesting and writes
characters such as U+200D in an attribute as `\\u{200d}`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import css_inline
from mjml import mjml2html

from newsletter.errors import BadInput, Where
from newsletter.rendering.checking import Checker
from newsletter.rendering.inlining import inliner
from newsletter.rendering.templates import AT

_CONTENT = re.compile("[\U00100000-\U0010ffff]")
_IN_TAG = re.compile(r"""<[A-Za-z/!](?:[^"'<>]|"[^"]*"|'[^']*')*>""")
_AT = re.compile(rf'\s*{AT}="([^"]*)"')


def to_html(
    source: str, contents: Sequence[str], place: Callable[[str], Where], where: Where
) -> str:
    """The HTML of a template's MJML.

    `contents` are the blocks' HTML; in `source` the character U+100000 + n stands for the nth.
    `place` resolves the marks that templates write, `where` names the template. Raises `BadInput`
    naming template and line for everything that is not good MJML.
    """
    checker = Checker(source, place, where, _unused_token(source))
    checker.run()
    try:
        page = mjml2html("".join(checker.skeleton), fonts={})
    except (ValueError, OSError) as error:
        raise BadInput(f"the MJML cannot be compiled: {error}", where=where) from error
    page = _put_back(page, checker)
    page = _fill(_AT.sub("", page), contents, where)
    return _inline(page, checker.inline_css, where)


def _put_back(page: str, checker: Checker) -> str:
    return re.sub(rf"{checker.token}(\d+)q", lambda match: checker.aside[int(match[1])], page)


def _fill(page: str, contents: Sequence[str], where: Where) -> str:
    """Put the blocks' HTML where their characters stand, which is never within a tag."""
    if any(_CONTENT.search(tag[0]) for tag in _IN_TAG.finditer(page)):
        raise BadInput("a block's HTML stands within a tag of an <mj-raw>", where=where)
    return _CONTENT.sub(lambda match: contents[ord(match[0]) - 0x100000], page)


def _inline(page: str, css: list[str], where: Where) -> str:
    """Apply the rules of `<mj-style inline="inline">`, which mrml accepts and forgets."""
    if not css:
        return page
    try:
        return inliner("\n".join(css)).inline(page)
    except css_inline.InlineError as error:
        raise BadInput(f"a style in <mj-raw> cannot be read: {error}", where=where) from error


def _unused_token(source: str) -> str:
    """A word that stands nowhere in `source`, the same for the same source."""
    token = "q" + hashlib.sha256(source.encode()).hexdigest()[:12] + "x"
    while token in source:
        token = "q" + hashlib.sha256(token.encode()).hexdigest()[:12] + "x"
    return token
