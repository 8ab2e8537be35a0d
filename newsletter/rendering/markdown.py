"""Markdown to tokens and HTML: raw HTML stays text, dangerous addresses stay text, tags are closed.

The tokens are the common source of the HTML and of the text part. It knows nothing of MJML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from newsletter.errors import BadInput, Where
from newsletter.rendering.links import is_allowed

_DEEPEST = 40  # of quotes and lists in each other; beyond its limit markdown-it drops text silently
_FIELD = re.compile("[\U000f0000-\U000fffff]")
_STAND_IN = re.compile(r"zqmergefieldqz([0-9]+)qz")

#: Turns the source of an image into the attributes of its `<img>`.
ImageAttributes = Callable[[str, Where], dict[str, str]]


def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "xhtmlOut": True, "maxNesting": _DEEPEST}
    ).enable(["table", "strikethrough"])
    normalise = parser.normalizeLink

    def normalise_link(url: str) -> str:
        """Percent-encode an address, but not the characters that stand for merge fields."""
        stood_in = _FIELD.sub(lambda m: f"zqmergefieldqz{ord(m[0])}qz", url)
        return _STAND_IN.sub(lambda m: chr(int(m[1])), normalise(stood_in))

    parser.normalizeLink = normalise_link  # type: ignore[method-assign]  # its own extension point
    parser.validateLink = is_allowed  # type: ignore[method-assign,assignment]
    return parser


_PARSER = _parser()


def parse(source: str, where: Where) -> list[Token]:
    """The tokens of a block's Markdown; `where` is its first line. Raises if nested too deeply."""
    tokens = _PARSER.parse(source)
    for token in tokens:
        if token.level >= _DEEPEST - 1:
            line = (where.line or 1) + (token.map[0] if token.map else 0)
            raise BadInput(
                f"quotes and lists nested more than {_DEEPEST // 2} deep",
                where=Where(where.file, line),
                hint="Nest them less deeply: mail shows no more than a few levels.",
            )
    return tokens


def resolve(
    tokens: Sequence[Token], where: Where, address: Callable[[str], str], image: ImageAttributes
) -> None:
    """Pass every link of the tokens through `address` and every image through `image`, in place.

    It is done once, so that the HTML and the text part have the same links.
    """
    for token in tokens:
        line = Where(where.file, (where.line or 1) + token.map[0]) if token.map else where
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", address(str(child.attrs["href"])))
            elif child.type == "image":
                for name, value in image(str(child.attrs["src"]), line).items():
                    child.attrSet(name, value)


def to_html(tokens: Sequence[Token]) -> str:
    """The HTML of tokens."""
    return str(_PARSER.renderer.render(tokens, _PARSER.options, {})).strip()


def label(source: str) -> str:
    """One line of HTML without links: the label of a button."""
    (inline,) = _PARSER.parseInline(source)
    children = [
        child
        for child in inline.children or ()
        if child.type not in ("link_open", "link_close", "image")
    ]
    rendered = RendererHTML(_PARSER).renderInline(children, _PARSER.options, {})
    return " ".join(rendered.replace("<br />", " ").split())
