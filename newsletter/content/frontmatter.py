"""Front matter: YAML between two `---` lines, read strictly with the line of every fault.

It does not know which keys a file may have; `library` does.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import (
    AliasToken,
    AnchorToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
    TagToken,
)

from newsletter.errors import BadInput, Where

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8

_OPENING = (
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingStartToken,
    FlowSequenceStartToken,
)
_CLOSING = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
_FORBIDDEN = {AliasToken: "an alias (*)", AnchorToken: "an anchor (&)", TagToken: "a tag (!)"}


@dataclass(frozen=True)
class FrontMatter:
    """`values` by key, the line of each key in the file, and the text that follows.

    `body_line` is the physical line (from 1) where `body` starts.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    body: str
    body_line: int


def split_fences(text: str) -> tuple[str, str, int] | None:
    """The YAML, the body and the body's first line; None where no front matter starts the text."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in {"---", "..."}:
            return "\n".join(lines[1:number]) + "\n", "\n".join(lines[number + 1 :]), number + 2
    return None


def parse(text: str, file: str) -> FrontMatter | None:
    """Read the front matter of `text`, whose line ends are `\\n`; None where there is none.

    Raises `BadInput` naming file and line: YAML that does not parse, no mapping, a key twice,
    more than 64 KB, nesting deeper than 8, an alias, anchor or tag.
    """
    parts = split_fences(text)
    if parts is None:
        return None
    source, body, body_line = parts
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise BadInput("the front matter is larger than 64 KB", where=Where(file, 1))
    plain = _plain(source)
    if plain is not None:
        return FrontMatter(*plain, body=body, body_line=body_line)
    try:
        _refuse_dangerous(source, file)
        loaded = YAML(typ="rt").load(source)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 2 if mark is not None else 1
        raise BadInput(
            f"the front matter is not valid YAML: {error.problem or 'it cannot be read'}",
            where=Where(file, line),
            hint="Values with a colon, a # or a quote in them need quotes around them.",
        ) from error
    except (YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"the front matter is not valid YAML: {reason}", where=Where(file, 1)
        ) from error
    return FrontMatter(*_keys(loaded, file), body=body, body_line=body_line)


_LINE = re.compile(r"([a-z][a-z0-9_]*): (.+)")
_PLAIN = re.compile(r"[^\W\d_][\w ,./()+’-]*(?<! )")  # a text to YAML, whatever stands in it
_WHOLE = re.compile(r"0|[1-9]\d{0,8}")
_SOURCE = re.compile(r"[A-Za-z/][\w./-]*(?:#L\d+-L\d+)?(?<=\w)")
_HASH = re.compile(r"[0-9a-f]{64}")
_NO_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def _plain(source: str) -> tuple[dict[str, Any], dict[str, int]] | None:
    """The simplest front matter, `key: word` lines as we write them, without the YAML library.

    That takes three milliseconds a file, which counts with 50,000 of them. None for anything in
    which YAML could see more than a text, a number or a hash.
    """
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(source.rstrip("\n").split("\n"), start=2):
        match = _LINE.fullmatch(line)
        if match is None or match[1] in values:
            return None
        key, value = match[1], match[2]
        if _WHOLE.fullmatch(value):
            values[key] = int(value)
        elif (
            (key == "sha256" and _HASH.fullmatch(value))
            or (_PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT)
            or (key == "source" and _SOURCE.fullmatch(value))
        ):
            values[key] = value
        else:
            return None
        lines[key] = number
    return values, lines


def _keys(loaded: Any, file: str) -> tuple[dict[str, Any], dict[str, int]]:
    if loaded is None:
        return {}, {}
    if not isinstance(loaded, CommentedMap):
        raise BadInput("the front matter must be lines of `key: value`", where=Where(file, 2))
    lines = {str(key): loaded.lc.key(key)[0] + 2 for key in loaded}
    return {str(key): value for key, value in loaded.items()}, lines


def _refuse_dangerous(source: str, file: str) -> None:
    """Look at the tokens before anything is built: no bomb is ever expanded."""
    depth = 0
    for token in YAML(typ="rt").scan(source):
        line = token.start_mark.line + 2
        if isinstance(token, _OPENING):
            depth += 1
            if depth > MAX_DEPTH:
                raise BadInput("the front matter is nested too deep", where=Where(file, line))
        elif isinstance(token, _CLOSING):
            depth -= 1
        elif what := _FORBIDDEN.get(type(token)):
            raise BadInput(
                f"the front matter has {what}, which is not allowed",
                where=Where(file, line),
                hint="Put the value in quotes if it only starts with that sign.",
            )


def compose(values: dict[str, Any]) -> str:
    """Front matter with its fences, keys in the order given, empty values left out."""
    document = CommentedMap({key: value for key, value in values.items() if value or value == 0})
    yaml = YAML(typ="rt")
    yaml.width = 10_000  # a title stays on its line
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump(document, stream)
    return f"---\n{stream.getvalue()}---\n"
